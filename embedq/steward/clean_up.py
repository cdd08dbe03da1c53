"""Deletes finished rows after their retention."""

from __future__ import annotations

from ..settings import Settings
from ..store import Store


def clean_up(store: Store, settings: Settings) -> None:
    """Unless any process has done so within EMBEDDING_CLEANUP_INTERVAL."""
    if store.care.clean_up_due(settings.cleanup_interval_h):
        removed = store.care.clean_up(settings.cleanup_retention_days)
        store.audit.write("cleanup", f"{sum(removed.values())} old rows were removed", removed=removed)
