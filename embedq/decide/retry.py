"""When a failed task runs again. Pure functions.

Jitter is *full jitter without its lowest tenth*: a wait is spread evenly over 10 % to 100 % of its bound. Full jitter starts at zero, and
three retries near zero would all happen before the fault is over. `dice` is a random number in [0, 1) from the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

LOWEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` runs after the first one; the bound of the wait doubles from `base_s` up to `cap_s` (seconds)."""

    max_retries: int = 3
    base_s: float = 1.0
    cap_s: float = 300.0


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The task waits in the table until `at`."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task has failed; `reason` is shown to the operator."""

    reason: str


def wait_s(attempt: int, policy: RetryPolicy, dice: float) -> float:
    """Seconds to wait after failed run number `attempt` (1 is the first): 10 % to 100 % of min(cap, base * 2^(attempt-1))."""
    return jittered(doubling(policy.base_s, attempt, policy.cap_s), dice)


def after_failure(attempts: int, message: str, policy: RetryPolicy, now: datetime, dice: float) -> RetryAt | GiveUp:
    """What happens to a task whose run number `attempts` failed by its own fault. `max_retries=3` means four runs in total, as in Celery.
    Not called for faults of a provider (G6)."""
    if attempts > policy.max_retries:
        return GiveUp(reason=f"gave up after {_runs(attempts)}: {message}")
    return RetryAt(at=now + timedelta(seconds=wait_s(attempts, policy, dice)), reason=message)


def doubling(base_s: float, number: int, cap_s: float) -> float:
    """The bound of wait number `number` (1 is the first), seconds."""
    if number < 1:
        raise ValueError(f"runs and faults are counted from 1, not {number}")
    # Limits the exponent, because a float overflows beyond 2^1000; every cap is reached before.
    return min(cap_s, base_s * 2.0 ** min(number - 1, 1000))


def jittered(bound_s: float, dice: float) -> float:
    """A wait within its bound, seconds."""
    return bound_s * (LOWEST_SHARE + (1 - LOWEST_SHARE) * dice)


def _runs(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
