"""Pause and resume priorities and tenants: what `embedq pause`, `embedq resume` and the service's doors do."""

from __future__ import annotations

from ..steward import maintenance_window
from ..store import Store
from ..store.control import Pauses
from ..store.database import Row


def change(store: Store, pauses: Pauses, reason: str, who: str, category: str) -> tuple[Row, Row]:
    """Returns what was paused, and what is, by part. A maintenance window whose pauses are all resumed ends with them."""
    before, after = store.status.pause(pauses, reason, who, category)
    maintenance_window.resumed(store, reason, who)
    store.workers.wake()
    return before, after
