"""Several processes that serve one listening socket. The parent only starts them, and restarts those that die."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from ..errors import EmbedqError
from ..local.process import LOOK_EVERY_S, ends_with_us, how_it_ended
from ..local.supervisor import restart_wait_s

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEALTHY_AFTER_S = 60.0


@dataclass(slots=True)
class Process:
    """One of the serving processes. `pid` is 0 while it does not run; it is due at `due_at`, on the monotonic clock."""

    number: int
    pid: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    quick_ends: int = 0


@dataclass(slots=True)
class Prefork:
    """`serve` runs in each of `processes` until TERM. To be made before this process has threads or connections: it forks."""

    serve: Callable[[], None]
    processes: int
    tell: Callable[[str], None]
    _asked_to_stop: int = field(default=0, init=False)

    def run(self) -> None:
        """Until INT, TERM or HUP; requests under way are answered first. A second signal ends it at once."""
        made = [Process(number) for number in range(1, self.processes + 1)]
        for each in HEEDED:
            signal.signal(each, self._stop)
        passed_on = 0
        while not self._asked_to_stop or any(process.pid for process in made):
            passed_on = self._pass_on(made, passed_on)
            for process in made:
                self._look_after(process)
            time.sleep(LOOK_EVERY_S)

    def _stop(self, *_: object) -> None:
        self._asked_to_stop += 1

    def _pass_on(self, made: list[Process], passed_on: int) -> int:
        asked = self._asked_to_stop
        if asked > passed_on:
            for process in made:
                if process.pid:
                    os.kill(process.pid, signal.SIGTERM)
        return asked

    def _look_after(self, process: Process) -> None:
        if process.pid:
            ended, status = os.waitpid(process.pid, os.WNOHANG)
            if ended:
                self._ended(process, os.waitstatus_to_exitcode(status))
        elif not self._asked_to_stop and time.monotonic() >= process.due_at:
            process.started_at, process.pid = time.monotonic(), self._fork()

    def _ended(self, process: Process, exit_code: int) -> None:
        process.pid, now = 0, time.monotonic()
        if self._asked_to_stop:
            return
        process.quick_ends = 0 if now - process.started_at > HEALTHY_AFTER_S else process.quick_ends
        wait_s = restart_wait_s(process.quick_ends, first_s=1.0, longest_s=30.0)
        process.quick_ends, process.due_at = process.quick_ends + 1, now + wait_s
        self.tell(f"process {process.number} {how_it_ended(exit_code)}; starting it again in {wait_s:g} s")

    def _fork(self) -> int:
        bind_to_parent = ends_with_us(signal.SIGTERM)
        sys.stdout.flush()
        sys.stderr.flush()
        return os.fork() or self._serve_and_end(bind_to_parent)

    def _serve_and_end(self, bind_to_parent: Callable[[], None] | None) -> NoReturn:
        for each in HEEDED:
            signal.signal(each, signal.SIG_DFL)
        code = 1
        try:
            if bind_to_parent is not None:
                bind_to_parent()
            self.serve()
            code = 0
        except EmbedqError as error:
            self.tell(f"{error}; {error.hint}")
        except Exception:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
