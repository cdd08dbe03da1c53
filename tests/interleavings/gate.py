"""Operations in threads of their own, each of which goes on when it is its turn, and the clock that they have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connections import GatedConnection

READY, RUNNING, WAITING, DONE = "ready", "running", "waiting", "done"
TIMEOUT, VICTIM, STATEMENT = "time-out", "deadlock", "statement time-out"
COMMIT = "COMMIT"


class Abandoned(BaseException):
    """Ends an operation whose schedule is not followed to its end. No handler of the product catches it."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What an operation is about to send. `snapshot`: it fixes the snapshot of its whole transaction."""

    sql: str
    connection: GatedConnection
    snapshot: bool = False
    frozen: bool = False  # its transaction reads by a snapshot that is fixed already
    watched: bool = False  # its transaction is SERIALIZABLE
    opaque: bool = False  # it is several transactions, which PostgreSQL commits one after another


class Player:
    """One operation in a thread of its own, with its own clock: sleeping and waiting for a lock cost it no real time."""

    def __init__(self, name: str, act: Callable[[], Any]) -> None:
        self.name, self.act = name, act
        self.state, self.pending = RUNNING, None
        self.arrived, self._go = threading.Event(), threading.Semaphore(0)
        self.abandoned, self.verdict = False, None
        self.offset_s = self.waited_s = 0.0
        self.connections: dict[int, GatedConnection] = {}
        self.rolled_back = self.yields = False
        self.naps = 0
        self.result: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True, name=f"player {name}")
        self.thread.player = self  # type: ignore[attr-defined]

    def _run(self) -> None:
        try:
            self.result = self.act()
        except Abandoned:
            pass
        except BaseException as error:
            self.error = error
        self.state, self.pending = DONE, None
        self.arrived.set()

    def go(self) -> None:
        self.arrived.clear()
        self.state, self.rolled_back = RUNNING, False
        self._go.release()

    def gate(self, pending: Pending) -> None:
        if self.abandoned:
            raise Abandoned
        self.pending = pending
        self.state = READY
        self.arrived.set()
        self._go.acquire()
        if self.abandoned:
            raise Abandoned

    def sleep(self, seconds: float) -> None:
        """A loop that asks again after a nap: once whenever it likes, after that only when another has taken a step."""
        self.pass_time(seconds)
        self.naps += 1
        self.yields = self.naps > 1

    def pass_time(self, seconds: float) -> None:
        self.offset_s += seconds
        self.waited_s += seconds

    @property
    def pids(self) -> list[int]:
        return list(self.connections)

    @property
    def bound_s(self) -> float:
        """How long its statement waits for a lock at most; 0: as long as it takes."""
        return self.pending.connection.bound_s if self.pending else 0.0


def playing() -> Player | None:
    return getattr(threading.current_thread(), "player", None)


# The clock -------------------------------------------------------------------------------------------------------------------------

_sleep, _monotonic = time.sleep, time.monotonic


def _sleep_of_player(seconds: float) -> None:
    player = playing()
    if player is None:
        _sleep(seconds)
    else:
        player.sleep(seconds)


def _monotonic_of_player() -> float:
    player = playing()
    return _monotonic() + (player.offset_s if player else 0.0)


def control_the_clock() -> None:
    """Until the process ends: threads that are no player's keep the real one."""
    time.sleep, time.monotonic = _sleep_of_player, _monotonic_of_player
