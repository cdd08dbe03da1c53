"""Periodic maintenance, done by one worker process at a time (the leader): dispatch, rescue, reconcile, clean up, sample.

May be imported by operations and above; uses engine, store and broker.
"""
