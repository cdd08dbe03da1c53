"""Draws numbers as a line of block characters of eight heights."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None]) -> str:
    """One character a value, scaled from zero to the largest; a blank for None."""
    top = max((value for value in values if value is not None), default=0.0)
    return "".join(" " if value is None else BARS[_height(value, top)] for value in values)


def _height(value: float, top: float) -> int:
    return min(len(BARS) - 1, int(max(0.0, value) / top * len(BARS))) if top > 0 else 0
