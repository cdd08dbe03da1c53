"""Deletes dead workers from the register."""

from __future__ import annotations

from ..store import Store

DEAD_AFTER_S = 60.0


def forget_dead_workers(store: Store) -> None:
    """Those whose lease ended DEAD_AFTER_S ago and that hold no task any more; each is recorded in the audit log."""
    for row in store.workers.bury(older_s=DEAD_AFTER_S):
        said = f"worker {row['name']} is gone"
        store.audit.write("worker", said, level="warning", worker=row["id"], delivery=row["delivery"])
