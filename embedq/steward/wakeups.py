"""How many *calls* (messages that name one task and wake a worker) to add to a queue during a backlog (docs/why/dispatched.rst)."""

from __future__ import annotations

from typing import Final

FEWEST_CALLS: Final = 16
MOST_CALLS: Final = 512
CALLS_PER_ANSWER: Final = 4


def calls_missing(called: int, waiting: int) -> int:
    """`called`: how many were in the queue after the last look; `waiting`: how many are left now. Never negative.

    The queue is filled to four times what was consumed since the last look, between `FEWEST_CALLS` and `MOST_CALLS`.
    """
    answered = max(0, called - waiting)
    wanted = min(MOST_CALLS, max(FEWEST_CALLS, CALLS_PER_ANSWER * answered))
    return max(0, wanted - waiting)
