"""Claim, load, plan, embed, settle: what a worker process does with a task, the same for Celery and the poller.

May be imported by steward and above; uses store, broker, providers and decide.
"""
