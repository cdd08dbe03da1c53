"""Whether due tasks are processed. One bounded query; blocking sessions are looked up only if they are not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from .database import Database, Row
from .fence import Fence, told
from .overview import Overview
from .queries import QUERIES


class Moves:
    def __init__(self, database: Database, fence: Fence, overview: Overview) -> None:
        self.database, self.fence, self.overview = database, fence, overview

    def seen(self) -> Row:
        """given_s, settled_s, changed_s, ahead_s (seconds; None: no such task), held (priorities), losing (tasks), read_only."""
        row = self.database.one(QUERIES.progress)
        assert row is not None
        return row

    def due_s(self, seen: Row, paused_priorities: Sequence[str], paused_tenants: Sequence[str]) -> float | None:
        """How long the longest task that may be claimed has been due, wherever it is."""
        free_s = self.overview.oldest_due_s([*paused_priorities, *seen["held"]], paused_tenants)
        return max((each for each in (free_s, seen["given_s"]) if each is not None), default=None)

    def in_the_way(self, longer_s: float) -> list[str]:
        """Sessions that have held the fence, the live row, tasks or articles for so long, each described so that an operator can identify it."""
        began = datetime.now(UTC) - timedelta(seconds=longer_s)
        holders = self.fence.holders(fence=True, tables=True)
        return [told(each) for each in holders if (each["stuck"] or not each["ours"]) and (each["since"] or began) <= began]
