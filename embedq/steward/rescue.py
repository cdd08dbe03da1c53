"""Takes tasks back from workers that died or hang."""

from __future__ import annotations

from ..engine.worker import Worker
from ..settings import Settings
from ..store import Store


def rescue(store: Store, worker: Worker, settings: Settings) -> None:
    """Their tasks are pending again, or failed after too many losses; workers are woken."""
    rows = store.tasks.rescue(settings.worker_timeout_s)
    if not rows:
        return
    store.workers.wake()
    worker.counters["rescued"] += len(rows)
    failed = sum(row["status"] == "failed" for row in rows)
    said = f"{len(rows)} tasks were taken back from workers that died or hung"
    store.audit.write("rescue", said, level="warning", tasks=len(rows), failed=failed)
