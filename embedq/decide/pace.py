"""Size and concurrency of requests to a provider, adapted to its response times. Pure functions.

A server on one processor may embed 300 tokens a second, one request after the other, and keep working on requests whose caller has timed
out. With requests of the size that a hosted service takes, every one would time out, and retries would lengthen its queue. So a process
begins with a size that such a server answers within the time-out, doubles it while answers are fast, and halves it when they are slow.
After a time-out it uses a quarter, and one request at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# With four threads this is 27 seconds of work for a server that embeds 300 tokens a second.
FIRST_TOKENS: Final = 2_000
FEWEST_TOKENS: Final = 64
# Upper limits for any provider: tokens of one request, and concurrent requests.
MOST_TOKENS: Final = 1_000_000
MOST_AT_ONCE: Final = 256
FAST_SHARE, LATE_SHARE = 1 / 8, 1 / 2


@dataclass(frozen=True, slots=True)
class Pace:
    """`max_tokens` of one request, estimated; `at_once`: requests of one process."""

    max_tokens: int = FIRST_TOKENS
    at_once: int = MOST_AT_ONCE


def after_answer(pace: Pace, tokens: int, at_once: int, took_s: float, timeout_s: float) -> Pace:
    """The pace after a good answer to a request of `tokens` estimated tokens, with `at_once` requests under way. A request much smaller
    than the pace allows says nothing about larger ones."""
    if took_s > timeout_s * LATE_SHARE:
        return Pace(max(FEWEST_TOKENS, min(pace.max_tokens, tokens) // 2), max(1, min(pace.at_once, at_once) // 2))
    if took_s > timeout_s * FAST_SHARE:
        return pace
    more = min(MOST_AT_ONCE, pace.at_once + 1)
    if tokens * 2 < pace.max_tokens:
        return replace(pace, at_once=more)
    return Pace(min(MOST_TOKENS, pace.max_tokens * 2), more)


def after_timeout(pace: Pace, tokens: int) -> Pace:
    """The pace after a request of `tokens` estimated tokens timed out."""
    return Pace(max(FEWEST_TOKENS, min(pace.max_tokens, tokens) // 4), 1)
