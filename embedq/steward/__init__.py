"""Housekeeping of a running system, led by one worker process at a time: dispatch, rescue, reconcile, clean up, sample.

May be imported by operations and above; uses engine, store and broker.
"""
