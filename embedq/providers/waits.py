"""How long a provider asks clients to wait, from its response headers. Pure functions.

Sources: RFC 9110 §10.2.3 (Retry-After); OpenAI API reference, rate limit headers (`6m0s`, `20ms`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

from ..decide.circuit_breaker import LONGEST_HEADER_S

# Longer waits are cut to this: they are mostly mistakes, and a request that comes too early charges no task.
MAX_RETRY_AFTER_S: Final = LONGEST_HEADER_S
LONGEST_HEADER: Final = 64

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SPAN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SINCE_1970: Final = 1e9  # seconds since 1970; a smaller number is a duration


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait, 0 to 3600, or None when the headers name none. `headers` maps lower-case names; `now` has a zone.

    `retry-after-ms` comes before `Retry-After` (seconds or a date), that before `x-ratelimit-reset…`. Of the two resets
    (requests, tokens) the one counts whose `x-ratelimit-remaining…` is 0; if neither is, the sooner.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    wish = _moment(headers.get("retry-after"), now)
    return _bounded(wish if wish is not None else _reset(headers, now))


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _short(value: str | None) -> str:
    """Ignore overlong values: a header may have 100 kB, on which a regular expression would take minutes."""
    return value if value is not None and len(value) <= LONGEST_HEADER else ""


def _number(value: str | None) -> float | None:
    try:
        number = float(_short(value))
    except ValueError:
        return None
    return number if isfinite(number) else None


def _moment(value: str | None, now: datetime) -> float | None:
    """Seconds from now, given as a number or an HTTP date."""
    seconds = _number(value)
    if seconds is not None or not _short(value):
        return seconds
    try:
        date = parsedate_to_datetime(_short(value))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()


def _reset(headers: Mapping[str, str], now: datetime) -> float | None:
    spans: dict[str, float] = {}
    for what in ("requests", "tokens"):
        span = _span(headers.get(f"x-ratelimit-reset-{what}"), now)
        if span is not None:
            spans[what] = span
    exhausted = [span for what, span in spans.items() if _number(headers.get(f"x-ratelimit-remaining-{what}")) == 0]
    if exhausted:
        return max(exhausted)
    return min(spans.values()) if spans else _span(headers.get("x-ratelimit-reset"), now)


def _span(value: str | None, now: datetime) -> float | None:
    """Seconds from `1m30.5s`, plain seconds, or a time in seconds since 1970."""
    number = _number(value)
    if number is not None:
        return number - now.timestamp() if number > _SINCE_1970 else number
    text = _short(value).strip().lower()
    if not text or _SPAN.sub("", text):
        return None
    return sum(float(count) * _UNITS[unit] for count, unit in _SPAN.findall(text))
