"""Child processes: start, read output, stop. Their output lines go to a callback; they end when this process ends.

Every child has its own session, so a terminal's Ctrl-C reaches only the parent. On Linux the kernel signals the children when this process
ends, even by SIGKILL (PR_SET_PDEATHSIG, prctl(2)). On other systems children survive a parent that was killed by SIGKILL.
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

    `env`: its complete environment (None: that of this process; Python programs need PYTHONUNBUFFERED=1 for immediate output).
    `stop_signal` requests its end, after `stop_timeout_s` it is killed; the kernel sends `orphan_signal` when this process ends. `owner`:
    uid and gid to run as, only for root. `umask`: -1: inherited. `stdin` is all that it reads there: at most a pipe
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
    """The process of one part. Its stdout and stderr go to `on_line(name, line)`, called from a separate thread per child."""

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
        """The process id; None if it is not running."""
        return self._process.pid if self._process is not None and self.runs else None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or before its first start."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start the process and return at once. Raises OSError if the program cannot be run."""
        self.last_lines.clear()
        self._process = popen_bound_to_us(self.part)
        self._session = self._process.pid
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.part.stop_signal)

    def stop(self) -> None:
        """Request the end, wait for `stop_timeout_s`, then kill. No effect if it is not running."""
        self.ask_to_stop()
        self.wait(self.part.stop_timeout_s)
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.clear_away()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it ended in time."""
        deadline = time.monotonic() + timeout_s
        while self.runs and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        return not self.runs

    def clear_away(self) -> None:
        """To be called once after its end: kills the remaining processes of its session, and waits until its last lines are delivered."""
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
        # Errors of the callback must not stop the reading, because a child whose pipe is full blocks.
        with suppress(Exception):
            if self._on_line is not None:
                self._on_line(self.name, line)


def popen_bound_to_us(part: Part) -> Popen[bytes]:
    """Start a process that the kernel signals when this process ends.

    The kernel signals it when the *thread* that forked ends, so forks from short-lived threads are delegated to a permanent one.
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
        # If the program ended before reading its input, its output has the reason.
        with suppress(BrokenPipeError), made.stdin as pipe:
            pipe.write(part.stdin)
    return made


@cache
def _lasting_thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="forks children")


def ends_with_us(orphan_signal: int) -> Callable[[], None] | None:
    """The preexec function that requests the signal; None on other systems than Linux.

    subprocess changes the user before calling it; a later change of user would clear the request.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def promise() -> None:
        prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        # The parent may have ended between the fork and prctl; then no signal would ever come.
        if os.getppid() != parent:
            os._exit(1)

    return promise


def how_it_ended(exit_code: int | None) -> str:
    """The exit code as text."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    names = {int(known): known.name for known in signal.Signals}
    return f"was ended by {names.get(-exit_code, f'signal {-exit_code}')}"
