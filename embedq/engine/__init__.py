"""Claim, load, plan, embed, settle: the way of a task through a worker process, the same for Celery and the poller.

May be imported by steward and above; uses store, broker, providers and decide.
"""
