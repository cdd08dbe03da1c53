"""Watches the fence (G5): once a switch has returned, no worker of a switched-off delivery may have claimed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from embedq.model import Delivery, Mode

if TYPE_CHECKING:
    from .world import World

# docs/reference/modes.rst, as the operator reads it.
MAY_CLAIM = {
    Mode.CELERY: {Delivery.CELERY},
    Mode.DATABASE: {Delivery.POLLER},
    Mode.HYBRID: {Delivery.CELERY, Delivery.POLLER},
    Mode.SYNC: {Delivery.CELERY, Delivery.POLLER},
    Mode.OFF: set[Delivery](),
}


class Fence:
    """`change` an operator's switch; before each, and at the end, `look` whether anybody claimed who was not to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mode, self.running = Mode.CELERY, True
        self.since: datetime | None = None
        self.looked = 0

    def change(self, act: Callable[[], object]) -> None:
        self.look()
        # If the act fails half-way, it is not known what holds: nothing is looked for until the next one.
        self.since = None
        act()
        with self.world.connect() as connection:
            row = connection.execute("SELECT mode, is_running, clock_timestamp() FROM embedding_worker_status").fetchone()
        assert row is not None
        self.mode, self.running, self.since = Mode(row[0]), row[1], row[2]

    def look(self) -> None:
        if self.since is None:
            return
        may = MAY_CLAIM[self.mode] if self.running else set()
        with self.world.connect() as connection:
            rows = connection.execute(
                "SELECT id, delivery, processed_at FROM embedding_tasks WHERE processed_at > %s AND NOT delivery = ANY (%s)",
                [self.since, [*may]],
            ).fetchall()
        self.looked += 1
        told = f"mode {self.mode}" if self.running else "stopped"
        self.world.complaints += [
            f"task {row[0]} was claimed by {row[1]} at {row[2]}, {told} since {self.since}" for row in rows
        ]
