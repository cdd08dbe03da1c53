"""Workers as processes of their own, and waiting for a fact. The processes die with the test run, however it ends."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from embedq.local.supervisor import Child, Part
from embedq.model import Priority

from . import forked

ROOT = Path(__file__).resolve().parents[1]
LOOK_EVERY_S = 0.02
_numbers = itertools.count(1)
T = TypeVar("T")
CELERY = (sys.executable, "-m", "celery")


def until(fact: Callable[[], T], timeout_s: float = 20.0, why: str | Callable[[], object] = "") -> T:
    """The first true value of `fact()`. AssertionError after `timeout_s`, saying `why` (text, or a function that looks then)."""
    deadline = time.monotonic() + timeout_s
    while not (found := fact()):
        if time.monotonic() > deadline:
            told = why() if callable(why) else why
            raise AssertionError(f"it did not come to that within {timeout_s:g} s: {told}")
        time.sleep(LOOK_EVERY_S)
    return found


@contextmanager
def folder_for_servers(prefix: str) -> Iterator[Path]:
    """Another user can pass through it: root's servers run as one. pytest's own folders are closed, at every run of pytest again."""
    with TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        yield Path(folder)


class _Child(Child):
    """A fork of a process that has imported embedq, where that comes to the same (see `forked`)."""

    def spawn(self) -> None:
        fork = forked.started(self.part.argv, self.part.env or {}, self.part.cwd or ROOT)
        if fork is None:
            super().spawn()
            return
        self._process, self._session = fork, fork.pid  # type: ignore[assignment]
        self._reader = threading.Thread(target=self._read, args=(fork.stdout,), daemon=True)
        self._reader.start()


class Process:
    """A started program. As a context manager it is ended with the block."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT) -> None:
        self._lines: list[str] = []
        part = Part(name, argv, env=env(environment), cwd=cwd, orphan_signal=signal.SIGKILL, stop_timeout_s=30.0)
        self._child = _Child(part, lambda _, line: self._lines.append(line))
        self._child.spawn()
        assert self._child.pid is not None, f"{name} ended at once: {self.output()}"
        self.pid: int = self._child.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def runs(self) -> bool:
        return self._child.runs

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._child.exit_code

    def output(self) -> str:
        """What it has written so far, stdout and stderr."""
        return "\n".join(self._lines)

    def says(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait until it has written these words."""
        until(lambda: words in self.output() or not self.runs, timeout_s, self.output)
        assert words in self.output(), f"it ended with {self.exit_code}: {self.output()}"

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop_still(self) -> None:
        """SIGSTOP: it lives and does nothing."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, with whatever it started. Returns when it is gone; safe to call twice."""
        self._child.kill()

    def terminate(self, timeout_s: float = 30.0) -> int | None:
        """TERM; waits for the end. Returns the exit code, AssertionError when it does not end in time."""
        self._child.ask_to_stop()
        assert self._child.wait(timeout_s), f"it did not end within {timeout_s:g} s of TERM: {self.output()}"
        self._child.clear_away()
        return self.exit_code


def free_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def env(environment: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a process under test: the machine's PATH and the like, and what the test names."""
    return forked.of_the_machine() | {"PYTHONUNBUFFERED": "1"} | dict(environment)


def start_poller(
    environment: Mapping[str, str], *, queues: Sequence[str] = tuple(Priority), ready: bool = True, cwd: Path = ROOT
) -> Process:
    """`embedq poller`; returns when it claims, or at once without `ready`. `cwd`: the folder that has the package."""
    process = Process("poller", [sys.executable, "-m", "embedq", "poller", "-Q", ",".join(queues)], environment, cwd)
    if ready:
        process.says("is ready")
    return process


def start_celery(
    environment: Mapping[str, str],
    *,
    queues: Sequence[str] = tuple(Priority),
    concurrency: int = 2,
    ready: bool = True,
    pool: str = "threads",
    more: Sequence[str] = (),
    program: Sequence[str] = CELERY,
    cwd: Path = ROOT,
) -> Process:
    """`celery -A embedq worker`; returns when it consumes, or at once without `ready`. `more`: further arguments; `cwd`: the folder that
    has the package."""
    argv = [
        *program,
        "-A",
        "embedq",
        "worker",
        "--pool",
        pool,
        "--concurrency",
        str(concurrency),
        "-Q",
        ",".join(queues),
        "--without-mingle",
        "--without-gossip",
        "--loglevel",
        "INFO",
        "-n",
        f"test{next(_numbers)}@%h",
        *more,
    ]
    process = Process("celery", argv, environment, cwd)
    if ready:
        process.says(" ready.")
    return process


def run_command(
    environment: Mapping[str, str], *arguments: str, timeout_s: float = 60.0, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`embedq …`, to its end. `cwd`: the folder that has the package."""
    whole = env(environment)
    return subprocess.run(
        [*forked.python(whole, cwd), "-m", "embedq", *arguments],
        env=whole,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
