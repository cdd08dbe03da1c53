"""Whether due tasks make progress, and the known causes if not. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Margin beyond one provider call, for the lease of a dead worker, the rescue of its tasks and a settle.
MARGIN_S = 15.0
# A clock behind by less is not reported, because clocks of two machines may differ by that much.
CLOCK_S = 30.0
# This many workers that died within `YOUNG_S` of their start are reported as a crash loop.
YOUNG_S, LOOP = 60.0, 3
# A worker's heartbeat reports stages in which its threads have been for longer than this.
LONG_S = 2.0

WAITS_FOR = {
    "claim": "PostgreSQL, to claim tasks",
    "embed": "the provider",
    "settle": "PostgreSQL, to settle what was embedded",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Measured progress. All times are seconds before now.

    `due_s`: the oldest claimable task became due; None: there is none. `able_s`: workers that may claim have been alive under the current
    mode and pauses; None: there are none. `settled_s`: a task last ended. `answered_s`: a provider last answered a living worker; None:
    unknown. `call_s`: longest duration of one provider call with its claim and settle; `batch_s`: longest time that a worker may hold
    tasks. `known`: known causes, as text.
    """

    due_s: float | None = None
    able_s: float | None = None
    settled_s: float | None = None
    answered_s: float | None = None
    call_s: float = 60.0
    batch_s: float = 315.0
    known: Sequence[str] = ()


def stalled_s(seen: Progress) -> float | None:
    """For how many seconds no task has ended although one could have; None while that is within the expected time.

    A batch settles when all its calls are answered: while a provider answers, the limit is `batch_s`.
    """
    if seen.due_s is None or seen.able_s is None:
        return None
    still_s = min(each for each in (seen.due_s, seen.able_s, seen.settled_s) if each is not None)
    answers = seen.answered_s is not None and seen.answered_s <= seen.call_s
    return still_s if still_s > (seen.batch_s if answers else seen.call_s) else None


def at_what(worker: str, under_way: Mapping[str, float]) -> list[str]:
    """What the threads of a worker wait for, as text; `under_way`: by stage, the longest wait in seconds."""
    return [f"{worker} has waited for {WAITS_FOR.get(stage, stage)} for {long_s:.0f} s" for stage, long_s in under_way.items()]


def call_bound_s(request_s: float, interval_s: float, fallback_s: float) -> float:
    """The longest time from a task's due time to the end of its provider call: poll interval, precedence of Celery over pollers, the call."""
    return request_s + interval_s + fallback_s + MARGIN_S
