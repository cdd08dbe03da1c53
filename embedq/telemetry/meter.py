"""Measurements of a process: durations as histograms, and counters with labels. `embedq.operations.metrics` exposes them to Prometheus.
Label values are embedq's own names, never a text, a tenant or a secret.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

# Bucket bounds in seconds; waiting times range up to a day, statements and requests do not.
WAITS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(slots=True)
class Histogram:
    """Observations in buckets by upper bound (seconds), the last one unbounded."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total_s: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, number of observations up to it), in Prometheus' cumulative form."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        reached, found = 0, []
        for name, count in zip(names, self.counts, strict=True):
            reached += count
            found.append((name, float(reached)))
        return found


Labels = tuple[str, ...]


class Meter:
    """The measurements of one process; shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[tuple[str, Labels]] = Counter()
        self.times: dict[tuple[str, Labels], Histogram] = {}
        self._latest: dict[str, float] = {}

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        with self._lock:
            self.counts[name, labels] += by  # type: ignore[assignment]
            self._latest[name] = time.monotonic()

    def since_s(self, name: str) -> float | None:
        """Seconds since this was last counted; None: never."""
        latest = self._latest.get(name)
        return None if latest is None else time.monotonic() - latest

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        with self._lock:
            found = self.times.get((name, labels))
            if found is None:
                found = self.times[name, labels] = Histogram(WAITS if name == "waiting" else CALLS)
            found.add(max(0.0, seconds))

    @contextmanager
    def timed(self, name: str, *labels: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.observe(name, time.monotonic() - started, *labels)

    def counted(self, name: str) -> list[tuple[Labels, float]]:
        with self._lock:
            return [(labels, float(value)) for (of, labels), value in self.counts.items() if of == name]

    def measured(self, name: str) -> list[tuple[Labels, list[tuple[str, float]], float]]:
        """(labels, cumulative buckets, sum in seconds) of one histogram."""
        with self._lock:
            return [(labels, h.cumulative(), h.total_s) for (of, labels), h in self.times.items() if of == name]


METER = Meter()
