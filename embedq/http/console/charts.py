"""Charts as SVG, drawn on the server: lines with axes, over the samples that the steward keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ..rendering import number
from ..snapshot import ceiling

# What a chart may span: the name in the address, its seconds, and how it is told.
WINDOWS: Mapping[str, tuple[float, str]] = {
    "10m": (600.0, "10 minutes"),
    "1h": (3600.0, "1 hour"),
    "24h": (86_400.0, "24 hours"),
    "7d": (604_800.0, "7 days"),
}
USUAL = "10m"
# The area of the lines, in units of the SVG: 640 by 200 with the axes.
LEFT, RIGHT, TOP, BOTTOM = 52.0, 632.0, 8.0, 172.0
MARKS = 5
COLOURS = 6

Line = Sequence[float | None]


class Mark(NamedTuple):
    """A mark of an axis: where it is and what it says."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """One line: its colour's number, the points of each stretch that was sampled, its newest value."""

    name: str
    colour: int
    parts: list[str]
    now: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    unit: str
    lines: list[Drawn]
    across: list[Mark]
    up: list[Mark]
    window: str

    @property
    def told(self) -> str:
        """The chart as text, for screen readers."""
        now = "; ".join(f"{line.name} {number(line.now)}" for line in self.lines) or "nothing was sampled"
        return f"{self.title}, {self.unit}, of the last {WINDOWS[self.window][1]}. Newest: {now}"


def window_of(given: str) -> str:
    return given if given in WINDOWS else USUAL


def chart(title: str, unit: str, series: Mapping[str, Line], window: str, now: datetime | None = None) -> Chart:
    top = ceiling(max((value for line in series.values() for value in line if value is not None), default=0.0))
    lines = [
        Drawn(name, place % COLOURS, list(_parts(line, top)), next((v for v in reversed(line) if v is not None), None))
        for place, (name, line) in enumerate(sorted(series.items()))
    ]
    return Chart(title, unit, lines, list(_across(window, now or datetime.now(UTC))), list(_up(top)), window)


def _parts(line: Line, top: float) -> Iterator[str]:
    """The points of a polyline for each run of values; a gap in the samples is a gap in the line."""
    step, run = (RIGHT - LEFT) / max(1, len(line) - 1), list[str]()
    for place, value in enumerate([*line, None]):
        if value is not None:
            run.append(f"{LEFT + place * step:.1f},{BOTTOM - (BOTTOM - TOP) * min(1.0, value / top):.1f}")
        elif run:
            # A single sample is drawn as a short line.
            yield " ".join(run if len(run) > 1 else [run[0], f"{float(run[0].split(',')[0]) + 2:.1f},{run[0].split(',')[1]}"])
            run = []


def _across(window: str, now: datetime) -> Iterator[Mark]:
    seconds = WINDOWS[window][0]
    form = "%H:%M" if seconds <= 86_400 else "%d %b"
    for place in range(MARKS):
        share = place / (MARKS - 1)
        yield Mark(LEFT + share * (RIGHT - LEFT), (now - timedelta(seconds=seconds * (1 - share))).astimezone().strftime(form))


def _up(top: float) -> Iterator[Mark]:
    for share in (0.0, 0.5, 1.0):
        yield Mark(BOTTOM - share * (BOTTOM - TOP), number(top * share))
