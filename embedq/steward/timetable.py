"""The leader's timetable: which chore is due when. A chore that fails does not delay the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..engine.worker import Worker

AGAIN_S = 10.0


@dataclass(slots=True)
class Chore:
    """`do()` every `every_s` seconds; `next_at` on the monotonic clock."""

    name: str
    every_s: float
    do: Callable[[], object]
    next_at: float = field(default=0.0)


class Timetable:
    """A chore that fails is tried again after AGAIN_S at most."""

    def __init__(self, chores: Sequence[Chore], worker: Worker) -> None:
        self.chores = list(chores)
        self._attempts = {chore.name: worker.lasting(f"embedq-steward, {chore.name}") for chore in self.chores}

    def start(self, later: dict[str, float]) -> None:
        """Make all chores due now, except those in `later` (name -> seconds)."""
        now = time.monotonic()
        for chore in self.chores:
            chore.next_at = now + later.get(chore.name, 0.0)

    def tick(self) -> None:
        """Do what is due."""
        for chore in self.chores:
            if time.monotonic() >= chore.next_at:
                lasting = self._attempts[chore.name]
                with lasting.attempt():
                    chore.do()
                chore.next_at = time.monotonic() + (min(AGAIN_S, chore.every_s) if lasting.failures else chore.every_s)

    def bring_forward(self, name: str, in_s: float) -> None:
        for chore in self.chores:
            if chore.name == name:
                chore.next_at = min(chore.next_at, time.monotonic() + in_s)
