"""Parses durations."""

from __future__ import annotations

from typing import Final

from ..errors import InputError
from .arguments import LONGEST_S

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(age: str, field: str = "since") -> float:
    """Seconds of a duration such as 90s, 30m, 6h, 7d. Raises InputError, which names `field`."""
    try:
        seconds = float(age[:-1]) * UNITS[age[-1:]]
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_S:
        raise InputError(f"{age!r} is not a span of time", hint="write 90s, 30m, 6h or 7d", field=field)
    return seconds
