"""The daily cap: when a day's bill has reached it, normal and low wait for the next day, and that is told. The steward's."""

from __future__ import annotations

from ..decide.prices import cap_of
from ..settings import Settings
from ..store import Store


def mind_the_cap(store: Store, settings: Settings) -> None:
    """Hold normal and low back, or let them go on: at the day's end (UTC), and when the cap was raised or taken away."""
    cap, today = cap_of(settings.daily_cap), store.ledger.today()
    if cap is not None and cap.reached(today.cost, today.tokens):
        reason = f"the cap of {cap} a day is reached (EMBEDDING_DAILY_CAP): normal and low wait until 0:00 UTC"
        if capped := store.ledger.cap(reason):
            store.audit.write("usage", reason, level="warning", providers=capped, tokens=today.tokens, cost=today.cost)
    elif uncapped := store.ledger.uncap(anyway=True):
        store.audit.write("usage", "normal and low go on: the day's cap is no longer reached", providers=uncapped)
