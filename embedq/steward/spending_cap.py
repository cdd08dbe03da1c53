"""The daily spending cap: when a day's cost reaches it, normal and low tasks wait for the next day, which is recorded in the audit log. A
chore of the steward."""

from __future__ import annotations

from ..decide.prices import cap_of
from ..settings import Settings
from ..store import Store


def apply_daily_cap(store: Store, settings: Settings) -> None:
    """Hold normal and low tasks back, or release them: at the day's end (UTC), or when the cap was raised or removed."""
    cap, today = cap_of(settings.daily_cap), store.ledger.today()
    if cap is not None and cap.reached(today.cost, today.tokens):
        reason = f"the cap of {cap} a day is reached (EMBEDDING_DAILY_CAP): normal and low wait until 0:00 UTC"
        if capped := store.ledger.cap(reason):
            store.audit.write("usage", reason, level="warning", providers=capped, tokens=today.tokens, cost=today.cost)
    elif uncapped := store.ledger.uncap(anyway=True):
        store.audit.write("usage", "normal and low go on: the day's cap is no longer reached", providers=uncapped)
