"""How many messages that only call a worker are missing from a queue, while there is a backlog (docs/why/dispatched.rst)."""

from __future__ import annotations

from typing import Final

FEWEST_CALLS: Final = 16
MOST_CALLS: Final = 512
CALLS_PER_ANSWER: Final = 4


def calls_missing(called: int, waiting: int) -> int:
    """`called`: how many waited after the last look, `waiting`: how many of them do now. Never negative.

    So many wait afterwards as would serve for four times as long as since the last look, between `FEWEST_CALLS` and `MOST_CALLS`.
    """
    answered = max(0, called - waiting)
    wanted = min(MOST_CALLS, max(FEWEST_CALLS, CALLS_PER_ANSWER * answered))
    return max(0, wanted - waiting)
