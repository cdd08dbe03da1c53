"""The rate limit of a provider, and what a worker does while it is used up. Pure functions.

A provider limits requests and tokens per minute. Some count any sixty seconds, so burst + reserve + sixty seconds at the rate must stay
below the limit. Only urgent tasks may use the reserve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE_SHARE: Final = 0.93
RESERVE_SHARE: Final = 0.04
BURST_SHARE: Final = 0.01
# One request has many tokens and must fit into the bucket.
TOKEN_BURST_SHARE: Final = 0.05
# A worker waits at most this long with claimed tasks; if the wait would be longer, it hands them back.
PATIENCE_S: Final = 2.0
# Claims resume this much before a place is free, because claiming takes time too.
EARLY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Rates:
    """The operator's limits per minute; 0: no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests_per_minute or self.tokens_per_minute)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: filled at `rate_s` per second, up to `burst` for all priorities and `reserve` for urgent only. A rate of 0: no limit."""

    rate_s: float = 0.0
    burst: float = 0.0
    reserve: float = 0.0


@dataclass(frozen=True, slots=True)
class Here:
    """The request may be sent after `wait_s` seconds; the place is taken."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Later:
    """The wait for a place is too long; one is free in `wait_s` seconds."""

    wait_s: float


Place = Here | Later


def rates_of(per_minute: float, *, burst_share: float = BURST_SHARE) -> Bucket:
    """The bucket for a limit. At most burst + reserve + 60 rate_s leave it in any sixty seconds, which is below the limit for limits of 2
    and more."""
    if per_minute <= 0:
        return Bucket()
    reserve = RESERVE_SHARE * per_minute
    burst = max(1.0, burst_share * per_minute)
    rate = min(RATE_SHARE * per_minute, per_minute - burst - reserve)
    return Bucket(max(rate, per_minute / 2) / 60, burst, reserve)


def place_of(wait_s: float) -> Place:
    """Interpret the store's answer: negative if no place was taken, then minus the seconds to wait."""
    return Later(-wait_s) if wait_s < 0 else Here(wait_s)


def leave_alone_s(wait_s: float) -> float:
    """How long claims pause when the next place is `wait_s` away: until the rest can be waited for with claimed tasks."""
    return max(0.0, wait_s - PATIENCE_S + EARLY_S)
