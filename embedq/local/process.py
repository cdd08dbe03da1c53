"""A child process: started, read, stopped. Its lines go to a callback; when we are gone, so is it.

Every child leads a session of its own, so a terminal's Ctrl-C reaches its parent alone. On Linux the kernel ends the
children when this process ends, by SIGKILL too (PR_SET_PDEATHSIG, prctl(2)). Other systems promise no such thing:
there, children outlive a parent that SIGKILL has ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from subprocess import Popen

OnLine = Callable[[str, str], None]

LOOK_EVERY_S, LAST_LINES_S = 0.05, 2.0
LONGEST_LINE = 64 * 1024
PR_SET_PDEATHSIG = 1


class Part(NamedTuple):
    """One program to keep running.

    `env` is its whole environment (None: ours; a Python program needs PYTHONUNBUFFERED=1 to be heard at once). `stop_signal`
    asks it to end, `stop_timeout_s` later it is killed; the kernel sends `orphan_signal` when we are gone. `owner`
    is the uid and gid to run as, for root to give. `umask`: -1 is ours. `stdin` is all that it reads there: at most a pipe
    holds (64 KiB on Linux).
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0
    orphan_signal: int = signal.SIGTERM
    cwd: Path | None = None
    owner: tuple[int, int] | None = None
    umask: int = -1
    stdin: bytes = b""


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
            list(part.argv),
            env=part.env,
            cwd=part.cwd,
            user=user,
            group=group,
            extra_groups=[] if part.owner else None,
            stdin=PIPE if part.stdin else DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            umask=part.umask,
            start_new_session=True,
            preexec_fn=ends_with_us(part.orphan_signal),
        )

    made = fork() if threading.current_thread() is threading.main_thread() else _lasting_thread().submit(fork).result()
    if made.stdin is not None:
        # A program that ended before it read this says why on its stdout.
        with suppress(BrokenPipeError), made.stdin as pipe:
            pipe.write(part.stdin)
    return made


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


def how_it_ended(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    names = {int(known): known.name for known in signal.Signals}
    return f"was ended by {names.get(-exit_code, f'signal {-exit_code}')}"
