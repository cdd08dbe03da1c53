"""Child processes: started in order, read, started again when they die, stopped in reverse order.

    lines = Lines(sys.stdout)
    with Servers(home, on_line=lines.say) as servers:
        Supervisor([servers.postgres, servers.redis, Part("poller", argv)], lines).run()

A terminal's Ctrl-C reaches only the supervisor (see `process`), which stops the parts in order.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from .. import visible
from ..addresses import hide
from ..errors import EmbedqError
from .process import LOOK_EVERY_S, Child, Part, how_it_ended

HASTY_S = 2.0
COLOURS = (36, 33, 32, 35, 34, 31)


class Lines:
    """Prints complete lines from any thread, each after the name of its part: `poller | ready`. Coloured on a terminal."""

    def __init__(self, out: TextIO, *, colour: bool | None = None) -> None:
        self._out = out
        self._colour = out.isatty() if colour is None else colour
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()

    def align(self, names: Iterable[str]) -> None:
        """Set the column width for these names."""
        for name in names:
            self._names.setdefault(name, len(self._names))

    def say(self, name: str, line: str) -> None:
        with self._lock:
            self.align([name])
            # The output may have lost its reader (`embedq up | head`); the parts must continue, and be stopped in order later.
            with suppress(OSError, ValueError):
                self._out.write(f"{self._prefix(name)} {visible.line(hide(line).expandtabs())}\n")
                self._out.flush()

    def _prefix(self, name: str) -> str:
        text = f"{name:<{max(map(len, self._names))}} |"
        return f"\x1b[{COLOURS[self._names[name] % len(COLOURS)]}m{text}\x1b[0m" if self._colour else text


def restart_wait_s(quick_ends: int, *, first_s: float, longest_s: float) -> float:
    """Seconds before the restart of a part that has ended quickly `quick_ends` times in a row; doubled each time."""
    return float(min(longest_s, first_s * 2 ** min(quick_ends, 32)))


class _Watched:
    """A child and its restart time: `due_at` is None while it should be running."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.quick_ends = 0
        self.started_at = time.monotonic()
        self.due_at: float | None = None if child.runs else 0.0


class Supervisor:
    """Keeps parts running until SIGINT, SIGTERM, SIGHUP or stop(). The first is started first and stopped last.

    A child that already runs (an embedded server) is watched and stopped like the others. A part that ends is restarted after
    `first_wait_s`, doubled each time up to `longest_wait_s`; the wait is reset after it ran for `healthy_after_s`.
    """

    def __init__(
        self,
        parts: Sequence[Part | Child],
        out: TextIO | Lines,
        *,
        name: str = "embedq",
        first_wait_s: float = 1.0,
        longest_wait_s: float = 30.0,
        healthy_after_s: float = 60.0,
    ) -> None:
        self._lines = out if isinstance(out, Lines) else Lines(out)
        self._watched = [_Watched(part if isinstance(part, Child) else Child(part, self._lines.say)) for part in parts]
        self._lines.align([name, *(watched.child.name for watched in self._watched)])
        self._name = name
        self._first_wait_s, self._longest_wait_s, self._healthy_after_s = first_wait_s, longest_wait_s, healthy_after_s
        self._asked_to_stop = 0

    def run(self) -> None:
        """Run until everything has been stopped. Signals are handled only in the main thread."""
        with _on_signals(self.stop):
            try:
                while not self._asked_to_stop:
                    for watched in self._watched:
                        self._look_after(watched)
                    time.sleep(LOOK_EVERY_S)
            finally:
                self._stop_all()

    def stop(self) -> None:
        """Make run() stop everything and return; a second call stops faster. Callable from any thread or a signal handler."""
        self._asked_to_stop += 1

    def _look_after(self, watched: _Watched) -> None:
        if self._asked_to_stop or watched.child.runs:
            return
        if watched.due_at is None:
            watched.child.clear_away()
            self._start_later(watched, how_it_ended(watched.child.exit_code))
        elif time.monotonic() >= watched.due_at:
            self._start(watched)

    def _start(self, watched: _Watched) -> None:
        watched.started_at, watched.due_at = time.monotonic(), None
        try:
            watched.child.spawn()
        except (OSError, EmbedqError) as error:
            self._start_later(watched, f"could not be started ({error})")

    def _start_later(self, watched: _Watched, why: str) -> None:
        if time.monotonic() - watched.started_at >= self._healthy_after_s:
            watched.quick_ends = 0
        wait_s = restart_wait_s(watched.quick_ends, first_s=self._first_wait_s, longest_s=self._longest_wait_s)
        watched.quick_ends += 1
        watched.due_at = time.monotonic() + wait_s
        self._say(f"{watched.child.name} {why}; starting it again in {wait_s:g} s")

    def _stop_all(self) -> None:
        self._say("stopping (Ctrl-C again to hasten)")
        for watched in reversed(self._watched):
            self._stop_one(watched.child)
        self._say("stopped")

    def _stop_one(self, child: Child) -> None:
        child.ask_to_stop()
        asked_at = time.monotonic()
        while child.runs and time.monotonic() - asked_at < self._patience_s(child):
            time.sleep(LOOK_EVERY_S)
        if child.runs:
            asked = signal.Signals(child.part.stop_signal).name
            self._say(f"{child.name} did not end within {self._patience_s(child):g} s of {asked}; killing it")
        child.kill()

    def _patience_s(self, child: Child) -> float:
        return child.part.stop_timeout_s if self._asked_to_stop < 2 else min(HASTY_S, child.part.stop_timeout_s)

    def _say(self, line: str) -> None:
        self._lines.say(self._name, line)


@contextmanager
def _on_signals(act: Callable[[], None]) -> Iterator[None]:
    heeded = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda *_: act()) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
