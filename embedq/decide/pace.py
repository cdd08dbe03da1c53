"""How much a process asks of a provider at once, by how long its requests take. Values in, values out.

A server on one processor may embed 300 tokens a second, one request after the other, and go on with what the caller has given up. Asked
for as much as a hosted service takes, it answers nothing in time, and every repetition makes its queue longer. So a process begins with a
request that such a server answers within the time-out, doubles what it asks for as long as answers come fast, and halves it when they come
late. After a time-out it asks for a quarter, and for one request at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# Four threads of a process together then ask for 27 seconds of work of a server that embeds 300 tokens a second.
FIRST_TOKENS: Final = 2_000
FEWEST_TOKENS: Final = 64
# No provider is asked for more in one request, nor by more threads at once.
MOST_TOKENS: Final = 1_000_000
MOST_AT_ONCE: Final = 256
FAST_SHARE, LATE_SHARE = 1 / 8, 1 / 2


@dataclass(frozen=True, slots=True)
class Pace:
    """`max_tokens` of one request, estimated; `at_once`: requests of one process."""

    max_tokens: int = FIRST_TOKENS
    at_once: int = MOST_AT_ONCE


def after_answer(pace: Pace, tokens: int, at_once: int, took_s: float, timeout_s: float) -> Pace:
    """After a good answer to a request of `tokens` estimated tokens, `at_once` of which were under way. One that was much smaller than the
    pace allows proves nothing about a larger one."""
    if took_s > timeout_s * LATE_SHARE:
        return Pace(max(FEWEST_TOKENS, min(pace.max_tokens, tokens) // 2), max(1, min(pace.at_once, at_once) // 2))
    if took_s > timeout_s * FAST_SHARE:
        return pace
    more = min(MOST_AT_ONCE, pace.at_once + 1)
    if tokens * 2 < pace.max_tokens:
        return replace(pace, at_once=more)
    return Pace(min(MOST_TOKENS, pace.max_tokens * 2), more)


def after_timeout(pace: Pace, tokens: int) -> Pace:
    """After a request of `tokens` estimated tokens that was not answered in time."""
    return Pace(max(FEWEST_TOKENS, min(pace.max_tokens, tokens) // 4), 1)
