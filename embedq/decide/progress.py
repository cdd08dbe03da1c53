"""Whether due work moves, and what is known of what keeps it. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What a dead worker's lease, the rescue of its tasks and a settle may take beyond one call to a provider.
MARGIN_S = 15.0
# A clock that is behind by less is not told: two machines may differ by that much.
CLOCK_S = 30.0
# So many workers that died within `YOUNG_S` of their start are a crash loop.
YOUNG_S, LOOP = 60.0, 3
# A worker tells with its heartbeat what its threads have been at for longer than this.
LONG_S = 2.0

WAITS_FOR = {
    "claim": "PostgreSQL, to claim tasks",
    "embed": "the provider",
    "settle": "PostgreSQL, to settle what was embedded",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """What has moved. All times in seconds before now.

    `due_s`: since when a task has been due that workers may claim; None: none is. `able_s`: since when workers that may claim have been
    alive under the present orders; None: there is none. `settled_s`: since a task last ended; `answered_s`: since a provider last answered a
    living worker; None: not as far as is known. `call_s`: how long one call to the provider may take, with its claim and its settling;
    `batch_s`: how long a worker may hold tasks. `known`: what is known of the cause, in words.
    """

    due_s: float | None = None
    able_s: float | None = None
    settled_s: float | None = None
    answered_s: float | None = None
    call_s: float = 60.0
    batch_s: float = 315.0
    known: Sequence[str] = ()


def stalled_s(seen: Progress) -> float | None:
    """For how long (seconds) nothing has ended although it could have; None while that is not longer than it may take.

    A batch settles when all its calls are answered: while a provider answers, the bound is that of a whole batch.
    """
    if seen.due_s is None or seen.able_s is None:
        return None
    still_s = min(each for each in (seen.due_s, seen.able_s, seen.settled_s) if each is not None)
    answers = seen.answered_s is not None and seen.answered_s <= seen.call_s
    return still_s if still_s > (seen.batch_s if answers else seen.call_s) else None


def at_what(worker: str, under_way: Mapping[str, float]) -> list[str]:
    """What the threads of a worker wait for, by stage and how long (seconds) the longest has."""
    return [f"{worker} has waited for {WAITS_FOR.get(stage, stage)} for {long_s:.0f} s" for stage, long_s in under_way.items()]


def call_bound_s(request_s: float, interval_s: float, fallback_s: float) -> float:
    """The longest time from a task's being due to the end of its call: the poll, what a poller leaves to Celery first, the call."""
    return request_s + interval_s + fallback_s + MARGIN_S
