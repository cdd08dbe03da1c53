"""Notices that the live row was changed, by command or by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..store import Store

RECONCILE_AFTER_SWITCH_S = 2.0


class SwitchWatch:
    """Searches for stale articles once more shortly after a change: a writer whose transaction was open during it followed the old mode."""

    def __init__(self, store: Store, reconcile_in: Callable[[float], None]) -> None:
        self.store, self.reconcile_in = store, reconcile_in
        self._changed_at: Any = None

    def look(self) -> None:
        changed_at = self.store.status.live().changed_at
        if changed_at != self._changed_at:
            known, self._changed_at = self._changed_at, changed_at
            if known is not None:
                self.reconcile_in(RECONCILE_AFTER_SWITCH_S)
