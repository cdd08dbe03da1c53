"""Child processes: started in order, read, started again when they die, stopped in reverse order.

    lines = Lines(sys.stdout)
    with Servers(home, on_line=lines.say) as servers:
        Supervisor([servers.postgres, servers.redis, Part("poller", argv)], lines).run()

Every child leads a session of its own, so a terminal's Ctrl-C reaches the supervisor alone and the stop keeps its order.
On Linux the kernel ends the children when this process ends, by SIGKILL too (PR_SET_PDEATHSIG, prctl(2)). Other systems
promise no such thing: there, children outlive a supervisor that SIGKILL has ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import IO, TYPE_CHECKING, NamedTuple, TextIO

from .errors import EmbedqError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from subprocess import Popen

OnLine = Callable[[str, str], None]

LOOK_EVERY_S, HASTY_S, LAST_LINES_S = 0.05, 2.0, 2.0
LONGEST_LINE = 64 * 1024
PR_SET_PDEATHSIG = 1
COLOURS = (36, 33, 32, 35, 34, 31)


class Part(NamedTuple):
    """One program to keep running.

    `env` is its whole environment (None: ours; a Python program needs PYTHONUNBUFFERED=1 to be heard at once). `stop_signal`
    asks it to end, `stop_timeout_s` later it is killed; the kernel sends `orphan_signal` when we are gone. `owner`
    is the uid and gid to run as, for root to give.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0
    orphan_signal: int = signal.SIGTERM
    cwd: Path | None = None
    owner: tuple[int, int] | None = None


class Child:
    """The process of one part. Its stdout and stderr go to `on_line(name, line)`, called from a thread of the child's own."""

    def __init__(self, part: Part, on_line: OnLine | None = None) -> None:
        self.part = part
        self.name = part.name
        self.last_lines: deque[str] = deque(maxlen=40)
        self._on_line = on_line
        self._process: Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._session: int | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """None when it does not run."""
        return self._process.pid if self._process is not None and self.runs else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it ever ran; minus the signal's number when a signal ended it."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Starts the process and returns at once. OSError when the program cannot be run."""
        self.last_lines.clear()
        self._process = popen_bound_to_us(self.part)
        self._session = self._process.pid
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.part.stop_signal)

    def stop(self) -> None:
        """Asks, waits as long as the part may take, then kills. Nothing happens when it does not run."""
        self.ask_to_stop()
        self.wait(self.part.stop_timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL. Returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.clear_away()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended in time."""
        deadline = time.monotonic() + timeout_s
        while self.runs and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        return not self.runs

    def clear_away(self) -> None:
        """Once after its end: kills what it left behind in its session, and waits until its last lines are handed on."""
        session, self._session = self._session, None
        if session is not None and self._reader is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGKILL)
            self._reader.join(LAST_LINES_S)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while raw := stream.readline(LONGEST_LINE):
                self._hand_on(raw.decode(errors="replace").rstrip("\r\n"))

    def _hand_on(self, line: str) -> None:
        self.last_lines.append(line)
        # Whatever a listener raises, reading goes on: a child whose pipe is full stands still.
        with suppress(Exception):
            if self._on_line is not None:
                self._on_line(self.name, line)


def popen_bound_to_us(part: Part) -> Popen[bytes]:
    """A process that the kernel signals when we end.

    To the kernel, "we" is the thread that forked: from a passing thread the fork is handed to one that lasts.
    """
    from subprocess import DEVNULL, PIPE, STDOUT, Popen

    user, group = part.owner or (None, None)

    def fork() -> Popen[bytes]:
        return Popen(
            list(part.argv), env=part.env, cwd=part.cwd, user=user, group=group, extra_groups=[] if part.owner else None,
            stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True, preexec_fn=ends_with_us(part.orphan_signal),
        )  # fmt: skip

    return fork() if threading.current_thread() is threading.main_thread() else _lasting_thread().submit(fork).result()


@cache
def _lasting_thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="forks children")


def ends_with_us(orphan_signal: int) -> Callable[[], None] | None:
    """What a forked child calls before it becomes its program; None where the kernel has no such promise.

    subprocess changes the user before it calls this, which matters: a change of user would cancel the promise.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def promise() -> None:
        prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        # We may have ended between the fork and the promise: nobody would ever send the signal.
        if os.getppid() != parent:
            os._exit(1)

    return promise


class Lines:
    """Prints whole lines from any thread, each behind the name of its part: `poller | ready`. Coloured on a terminal."""

    def __init__(self, out: TextIO, *, colour: bool | None = None) -> None:
        self._out = out
        self._colour = out.isatty() if colour is None else colour
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()

    def align(self, names: Iterable[str]) -> None:
        """Makes room for these names."""
        for name in names:
            self._names.setdefault(name, len(self._names))

    def say(self, name: str, line: str) -> None:
        with self._lock:
            self.align([name])
            # Nobody may be reading any more (`embedq up | head`); the parts must go on, and be stopped in order.
            with suppress(OSError, ValueError):
                self._out.write(f"{self._prefix(name)} {line}\n")
                self._out.flush()

    def _prefix(self, name: str) -> str:
        text = f"{name:<{max(map(len, self._names))}} |"
        return f"\x1b[{COLOURS[self._names[name] % len(COLOURS)]}m{text}\x1b[0m" if self._colour else text


def restart_wait_s(quick_ends: int, *, first_s: float, longest_s: float) -> float:
    """How long a part waits that has ended `quick_ends` times in a row before this time: doubled each time."""
    return float(min(longest_s, first_s * 2 ** min(quick_ends, 32)))


def how_it_ended(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    names = {int(known): known.name for known in signal.Signals}
    return f"was ended by {names.get(-exit_code, f'signal {-exit_code}')}"


class _Watched:
    """A child, and when it is due: `due_at` is None while it is meant to be running."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.quick_ends = 0
        self.started_at = time.monotonic()
        self.due_at: float | None = None if child.runs else 0.0


class Supervisor:
    """Keeps parts running until SIGINT, SIGTERM, SIGHUP or stop(). The first is started first and stopped last.

    A child that runs already (an embedded server) is watched, and stopped in its turn, like the others. A part that ends is
    started again after `first_wait_s`, doubled each time up to `longest_wait_s`; one that ran `healthy_after_s` begins anew.
    """

    def __init__(
        self, parts: Sequence[Part | Child], out: TextIO | Lines, *, name: str = "embedq",
        first_wait_s: float = 1.0, longest_wait_s: float = 30.0, healthy_after_s: float = 60.0,
    ) -> None:  # fmt: skip
        self._lines = out if isinstance(out, Lines) else Lines(out)
        self._watched = [_Watched(part if isinstance(part, Child) else Child(part, self._lines.say)) for part in parts]
        self._lines.align([name, *(watched.child.name for watched in self._watched)])
        self._name = name
        self._first_wait_s, self._longest_wait_s, self._healthy_after_s = first_wait_s, longest_wait_s, healthy_after_s
        self._asked_to_stop = 0

    def run(self) -> None:
        """Returns when everything has been stopped. Signals are heeded when it runs in the main thread."""
        with _on_signals(self.stop):
            try:
                while not self._asked_to_stop:
                    for watched in self._watched:
                        self._look_after(watched)
                    time.sleep(LOOK_EVERY_S)
            finally:
                self._stop_all()

    def stop(self) -> None:
        """Asks run() to stop everything and return; asking again hastens. From any thread, or a signal handler."""
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
