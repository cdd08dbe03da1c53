"""Gives stale articles without a task one."""

from __future__ import annotations

from ..store import Store
from ..store.reconcile import STEWARDS_SHARE


def reconcile(store: Store) -> None:
    """A bounded share of the articles at a time, while the mode makes tasks."""
    made = store.care.reconcile_if_tasks_are_made(STEWARDS_SHARE)
    if made:
        store.audit.write("reconcile", f"{made} stale articles without a task got one", tasks=made)
