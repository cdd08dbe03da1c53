"""Reasons other than a loss in the broker why a dispatched task has no message."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from ..decide.modes import LiveState
from ..store import Store

# Messages acknowledged without effect shortly before a stop or pause ended are noticed this much later at most.
REMEMBERED_S = 60.0


class Missed:
    """Workers acknowledge messages whose tasks they may not claim: a missing message proves no loss if claims or a provider were paused."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._why, self._at = "", float("-inf")

    def explained(self, live: LiveState) -> str:
        """The reason; empty if only the broker can have lost the message."""
        found = _of_orders(live) or ("their provider was paused" if self.store.providers.troubled() else "")
        now = time.monotonic()
        if found:
            self._why, self._at = found, now
        return self._why if now - self._at < REMEMBERED_S else ""


def _of_orders(live: LiveState) -> str:
    if not live.is_running or live.paused_priorities or live.paused_tenants or live.throttle:
        return "claims were stopped, paused or throttled"
    changed_s = (datetime.now(UTC) - live.changed_at).total_seconds() if live.changed_at else REMEMBERED_S
    return "the orders had just changed" if changed_s < REMEMBERED_S else ""
