"""How many messages that only call a worker are missing from a queue, while there is a backlog (docs/why/dispatched.rst)."""

from __future__ import annotations

from typing import Final

FEWEST_CALLS: Final = 16
MOST_CALLS: Final = 512
CALLS_PER_ANSWER: Final = 2
CALLS_PER_ANSWER_WHEN_DRY: Final = 4


def calls_missing(called: int, waiting: int) -> int:
    """`called`: how many waited after the last look, `waiting`: how many of them do now. Never negative.

    So many wait afterwards as would serve for twice as long as since the last look, for four times as long if none was left, between
    `FEWEST_CALLS` and `MOST_CALLS`. What is called in vain when the backlog ends costs its worker a look each.
    """
    answered = max(0, called - waiting)
    times = CALLS_PER_ANSWER if waiting else CALLS_PER_ANSWER_WHEN_DRY
    wanted = min(MOST_CALLS, max(FEWEST_CALLS, times * answered))
    return max(0, wanted - waiting)
