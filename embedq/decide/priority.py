"""In which order a worker looks at the priorities."""

from __future__ import annotations

from ..model import Priority

LAST_FIRST_EVERY = 16
URGENT_FIRST = tuple(Priority)


def order(turn: int) -> tuple[Priority, ...]:
    """The most urgent first; every sixteenth turn the other way round, so that `low` is never starved."""
    return URGENT_FIRST[::-1] if turn % LAST_FIRST_EVERY == 0 else URGENT_FIRST
