"""Why a task that was given to the broker has no message any more, where that is not the broker's doing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from ..decide.modes import LiveState
from ..store import Store

# What was acknowledged without effect shortly before an order or a pause ended is missed a little later.
REMEMBERED_S = 60.0


class Missed:
    """Workers acknowledge what they may not claim: while claims were paused or a provider was, a message that is gone proves no loss."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._why, self._at = "", float("-inf")

    def explained(self, live: LiveState) -> str:
        """In words; empty when nothing but the broker can have lost it."""
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
