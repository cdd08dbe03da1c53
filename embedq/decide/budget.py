"""How fast a provider may be asked, and what a worker does when it may not yet. Values in, values out.

A provider's limit is so many a minute; some count any sixty seconds, so what leaves in any sixty seconds must stay below
it: burst + reserve + sixty seconds' worth of the rate. The reserve is what only the urgent may draw on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE_SHARE: Final = 0.93
RESERVE_SHARE: Final = 0.04
BURST_SHARE: Final = 0.01
# One request carries many tokens: it must fit the bucket.
TOKEN_BURST_SHARE: Final = 0.05
# A worker waits so long for its place in line with tasks in its hands; for longer it hands them back.
PATIENCE_S: Final = 2.0
# How much before its time a place is looked for again: claiming takes a moment too.
EARLY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Rates:
    """What the operator allows, a minute; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests_per_minute or self.tokens_per_minute)


@dataclass(frozen=True, slots=True)
class Bucket:
    """`rate_s` a second flow in, up to `burst` for everybody and `reserve` for the urgent. A rate of 0 is no limit."""

    rate_s: float = 0.0
    burst: float = 0.0
    reserve: float = 0.0


@dataclass(frozen=True, slots=True)
class Here:
    """The request may be sent after `wait_s` seconds; the place is taken."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Later:
    """No place is near enough; one is free in `wait_s` seconds."""

    wait_s: float


Place = Here | Later


def rates_of(per_minute: float, *, burst_share: float = BURST_SHARE) -> Bucket:
    """The bucket for a limit. In any sixty seconds burst + reserve + 60 rate_s leave it, which is less than the limit from 2 on."""
    if per_minute <= 0:
        return Bucket()
    reserve = RESERVE_SHARE * per_minute
    burst = max(1.0, burst_share * per_minute)
    rate = min(RATE_SHARE * per_minute, per_minute - burst - reserve)
    return Bucket(max(rate, per_minute / 2) / 60, burst, reserve)


def place_of(wait_s: float) -> Place:
    """What the store's answer means: minus the seconds when there is no place."""
    return Later(-wait_s) if wait_s < 0 else Here(wait_s)


def leave_alone_s(wait_s: float) -> float:
    """For how long claims may as well stop when a place is `wait_s` away: until one can be waited for."""
    return max(0.0, wait_s - PATIENCE_S + EARLY_S)
