"""The order in which a worker claims priorities."""

from __future__ import annotations

from ..model import Priority

LAST_FIRST_EVERY = 16
URGENT_FIRST = tuple(Priority)


def order(turn: int) -> tuple[Priority, ...]:
    """Most urgent first; every sixteenth turn in reverse, so that `low` is not starved."""
    return URGENT_FIRST[::-1] if turn % LAST_FIRST_EVERY == 0 else URGENT_FIRST
