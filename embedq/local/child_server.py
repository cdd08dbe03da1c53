"""PostgreSQL or Redis as a child of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import EmbedqError
from .data_directory import START_TIMEOUT_S, end_leftovers, failed
from .process import LOOK_EVERY_S, Child, OnLine, Part, how_it_ended

if TYPE_CHECKING:
    pass


LOOPBACK = "127.0.0.1"


class ChildServer(Child):
    """PostgreSQL or Redis: a child process with a data folder (its part's `cwd`) and a port that stays the same across restarts.

    `start()` returns when the server answers, `stop()` after a clean shutdown, `kill()` when SIGKILL has ended it.
    """

    def __init__(self, part: Part, on_line: OnLine | None, port: int, answers: Callable[[], bool]) -> None:
        super().__init__(part, on_line)
        self.port = port
        self._answers = answers

    def spawn(self) -> None:
        """As Child.spawn, after ending leftover processes that use the data folder. Raises EmbedqError if the port is taken."""
        from .ports import is_free

        end_leftovers(self.part)
        if not is_free(self.port):
            hint = f"end what listens on {LOOPBACK}:{self.port}; or stop embedq and start it anew: it picks another port then"
            raise EmbedqError(f"{self.name}: port {self.port} is taken by another program", hint=hint)
        super().spawn()

    def start(self) -> None:
        """No effect if it runs. Raises EmbedqError, with the server's last log lines, if it does not start."""
        if self.runs:
            return
        deadline = time.monotonic() + START_TIMEOUT_S
        self.spawn()
        while not self._answers():
            if not self.runs:
                self._spawn_again(deadline)
            if time.monotonic() > deadline:
                self.kill()
                raise failed(self, f"did not answer within {START_TIMEOUT_S:g} s")
            time.sleep(LOOK_EVERY_S)

    def _spawn_again(self, deadline: float) -> None:
        """Retry while processes that outlived a killed PostgreSQL still hold its shared memory; other failures are not retried."""
        self.clear_away()
        if time.monotonic() > deadline or not any("shared memory block" in line for line in self.last_lines):
            raise failed(self, how_it_ended(self.exit_code))
        time.sleep(LOOK_EVERY_S)
        self.spawn()
