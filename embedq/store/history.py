"""Sampled figures over time, for `embedq metrics` and `embedq alerts`."""

from __future__ import annotations

from ..decide.alerts import Kept
from .database import Database, Row
from .queries import QUERIES

CAP = 100_000


class History:
    def __init__(self, database: Database) -> None:
        self.database = database

    def kept(self) -> Kept:
        return Kept(**(self.database.one(QUERIES.kept_for_people, {"cap": CAP}) or {}))

    def depth(self, seconds: float, buckets: int) -> dict[str, list[float | None]]:
        """Open tasks by status: the mean of each of `buckets` equal stretches, the oldest first; None where there are no samples."""
        series: dict[str, list[float | None]] = {}
        for row in self._rows("depth", "status", seconds, buckets):
            line = series.setdefault(row["label"], [None] * buckets)
            line[min(row["bucket"], buckets - 1)] = row["total"] / max(1, row["samples"])
        return series

    def ended(self, seconds: float, buckets: int) -> dict[str, list[float | None]]:
        """Tasks a second by how they ended, in each of `buckets` equal stretches; 0 where none ended."""
        stretch_s = seconds / buckets
        series: dict[str, list[float | None]] = {}
        for row in self._rows("settled", "status", seconds, buckets):
            line: list[float | None] = series.setdefault(row["label"], [0.0] * buckets)
            line[min(row["bucket"], buckets - 1)] = row["total"] / stretch_s
        return series

    def _rows(self, metric: str, by: str, seconds: float, buckets: int) -> list[Row]:
        parameters = {"metric": metric, "by": by, "seconds": seconds, "bucket_s": seconds / buckets}
        return self.database.fetch(QUERIES.series, parameters)
