"""Processes under test without the second that Python takes to import embedq: forks of one process that has imported it.

Each is a process of its own, with its own streams, environment, folder, user, signals and exit code. Only the imports were done before.
Where the start of Python itself matters (its variables, the locale, another copy of the package) or no test runs, `python` is Python.
A test about imports or about limits of its own process starts Python too, without this.

    subprocess.run([*python(environment, folder), "-m", "embedq", "status"], env=environment, cwd=folder)

`server` is the process that forks, `asking` what asks it in the place of Python.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from . import asking

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("embedq", "celery")
# In the environment of a fork: it ends as Python ends, taking its modules apart, which takes a tenth of a second.
WHOLE_END = "EMBEDQ_TEST_WHOLE_END"
# Set by `conftest`: benchmarks, and whatever else uses the helpers of the tests, start Python.
in_use = False
# They do not change how Python starts, or a fork heeds them.
HARMLESS = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONPYCACHEPREFIX")
_starting = threading.Lock()


def python(environment: Mapping[str, str], cwd: Path = ROOT, user: int | None = None) -> list[str]:
    """What starts Python with this whole environment in this folder, as this user: a fork where it comes to the same."""
    if _starts_otherwise(environment, cwd):
        assert user is None
        return [sys.executable]
    return [sys.executable, "-I", "-S", asking.__file__, _socket(), "" if user is None else str(user)]


def begun() -> bool:
    """Whether the server runs already: what starts faster than the server waits for nobody."""
    return _server.cache_info().currsize > 0


def started(
    argv: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT, out: IO[bytes] | None = None
) -> Forked | None:
    """The fork that is `argv`, leader of its own session, its output in `out` (None: in its `stdout`); it dies with this process.
    None where only the program itself will do."""
    if [sys.executable, "-m"] != list(argv[:2]) or argv[2] not in MODULES or _starts_otherwise(environment, cwd):
        return None
    return Forked(argv[1:], environment, cwd, out)


class Forked:
    """A fork, with what is used of `subprocess.Popen`."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], cwd: Path, out: IO[bytes] | None) -> None:
        reading, writing = os.pipe() if out is None else (None, out.fileno())
        with open(os.devnull, "rb") as nothing:
            head = [os.fsencode(cwd), b"", b"", b"session"]
            variables = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
            streams = {0: nothing.fileno(), 1: writing, 2: writing}
            self._connection, self.pid = asking.asked(_socket(), head, [os.fsencode(word) for word in argv], variables, streams)
        if out is None:
            os.close(writing)
        self.stdout = None if reading is None else os.fdopen(reading, "rb")
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and self._told(timeout):
                self.returncode = asking.number_from(self._connection)
                self._connection.close()
            return self.returncode

    def _told(self, timeout: float | None) -> bool:
        look = select.poll()
        look.register(self._connection, select.POLLIN)
        return bool(look.poll(None if timeout is None else timeout * 1000))


def _starts_otherwise(environment: Mapping[str, str], cwd: Path) -> bool:
    """Whether a process with this environment in this folder is another than a fork: other variables of Python, another locale, another copy of embedq."""
    ours = of_the_machine()
    ofpython = {name for name in (*environment, *ours) if name.startswith(("PYTHON", "LD_"))} - set(HARMLESS)
    return not in_use or (
        any(environment.get(name) != ours.get(name) for name in ofpython)
        or _locale(environment) != _locale(ours)
        or environment.get("PYTHONPATH", str(ROOT)) != str(ROOT)
        or (cwd != ROOT and (cwd / "embedq").exists())
    )


def _locale(environment: Mapping[str, str]) -> str:
    return environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""


def of_the_machine() -> dict[str, str]:
    """What every process under test has of this machine's environment."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")}


def _socket() -> str:
    """Where the server of this test run listens."""
    with _starting:
        return _server()[0]


@cache
def _server() -> tuple[str, object]:
    """The address of the server, and what keeps it: it ends with this process, whose end closes the pipe to it."""
    folder = tempfile.TemporaryDirectory(prefix="embedq-forks-")
    address = f"{folder.name}/socket"
    argv = [sys.executable, "-m", "tests.forked.server", address]
    server = subprocess.Popen(
        argv, env=of_the_machine(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the server of forks did not start: its output is above"
    atexit.register(_end, server)
    return address, (folder, server)


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
