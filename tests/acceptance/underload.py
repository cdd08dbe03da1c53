"""Real workers of both deliveries under load, articles being written meanwhile, and the commands of an operator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedq import Client
from embedq.model import ArticleDraft, Model
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests import forked
from tests.standin import StandIn

ROOT = Path(__file__).resolve().parents[2]
QUEUES = "urgent,high,normal,low"


def wait_until(fact: Callable[[], object], within_s: float = 30.0, what: str = "it") -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"{what} was not seen within {within_s:g} s"
        time.sleep(0.02)


def use_standin(environment: Mapping[str, str], standin: StandIn, **more: str) -> dict[str, str]:
    """The environment of a deployment whose provider is the stand-in; its model becomes the active one."""
    known = dict(environment) | {
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": "text-embedding-3-small",
        "EMBEDDING_DIMENSIONS": "64",
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": standin.openai_url,
    }
    store = Store(Database(known["DATABASE_URL"]))
    store.database.execute("DELETE FROM embedding_active_model")
    store.database.execute("UPDATE embedding_models SET kept_in_step = false")
    store.models.agree(Model("openai", "text-embedding-3-small", 64))
    store.close()
    return known | more


@dataclass
class Ran:
    """A command that has ended: when it returned (time.time()), how long it took, what it said."""

    exit_code: int
    out: str
    err: str
    seconds: float
    returned_at: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def embedq(environment: Mapping[str, str], *arguments: str, timeout_s: float = 120.0, cwd: Path = ROOT) -> Ran:
    """`embedq …` as a process of its own, with nothing of this machine's settings."""
    started = time.monotonic()
    whole = clean() | {"PYTHONPATH": str(ROOT)} | dict(environment)
    done = subprocess.run(
        [*forked.python(whole, cwd), "-m", "embedq", *arguments],
        cwd=cwd,
        env=whole,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
    return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - started, time.time())


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("EMBEDDING_", "OPENAI_"))}


@dataclass
class Fleet:
    """Worker processes of both deliveries. `logs` is a folder with a file for each."""

    environment: Mapping[str, str]
    logs: Path
    processes: dict[str, subprocess.Popen[bytes] | forked.Forked] = field(default_factory=dict)

    def start_celery(self, number: int) -> None:
        for each in range(number):
            argv = [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "embedq",
                "worker",
                "--pool",
                "threads",
                "-Q",
                QUEUES,
                "--without-mingle",
                "--without-gossip",
                "--loglevel",
                "WARNING",
                "--hostname",
                f"c{each}@%h",
            ]
            self._start(f"celery{each}", argv)

    def start_pollers(self, number: int) -> None:
        for each in range(number):
            self._start(f"poller{each}", [sys.executable, "-m", "embedq", "poller", "--stop-timeout", "10"])

    def _start(self, name: str, argv: Sequence[str]) -> None:
        whole = clean() | dict(self.environment)
        with (self.logs / f"{name}.log").open("ab") as log:
            fork = forked.started(argv, whole, out=log)
            self.processes[name] = fork or subprocess.Popen(argv, cwd=ROOT, env=whole, stdout=log, stderr=log)

    def signal(self, kind: str, number: int) -> None:
        """To every worker of this kind (celery, poller)."""
        for name, process in self.processes.items():
            if name.startswith(kind):
                process.send_signal(number)

    def stop(self) -> None:
        self.signal("", signal.SIGCONT)
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + 20
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def fleet(environment: Mapping[str, str], logs: Path, store: Store, *, celery: int, pollers: int) -> Iterator[Fleet]:
    """Workers that have registered when the block begins."""
    workers = Fleet(environment, logs)
    try:
        workers.start_celery(celery)
        workers.start_pollers(pollers)
        wait_until(lambda: sum(w["alive"] for w in store.workers.all()) >= celery + pollers, 120, "every worker")
        yield workers
    finally:
        workers.stop()


class Writer:
    """Writes articles in a thread until it is stopped: at least `at_least` tasks stay open, and now and then one is edited."""

    def __init__(self, environment: Mapping[str, str], at_least: int) -> None:
        self.client, self.at_least = Client(from_env(environment)), at_least
        self.written, self.failures, self.slowest_s = 0, [], 0.0  # type: ignore[var-annotated]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def fill(self, number: int) -> None:
        for at in range(0, number, 1000):
            with self._lock:  # no edit of what is not written yet
                self._put(min(1000, number - at))

    def _put(self, number: int) -> None:
        first, self.written = self.written, self.written + number
        self.client.put([ArticleDraft(f"title {n}", f"text number {n}", id=f"a{n:06}") for n in range(first, first + number)])

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        self.client.close()

    def _write(self) -> None:
        turn = 0
        while not self._stopping.wait(0.1):
            turn += 1
            started = time.monotonic()
            try:
                with self._lock:
                    self._put(5)
                    self.client.edit(f"a{(turn * 37) % self.written:06}", content=f"edited in turn {turn}")
                    counts = self.client.store.switches.counts()
                    if sum(counts.values()) < self.at_least and self.client.decision().makes_tasks:
                        self._put(500)
            except Exception as failed:
                self.failures.append(repr(failed))
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)


def facts(store: Store) -> dict[str, Any]:
    return store.care.verify()


def tour(nodes: Sequence[str]) -> list[str]:
    """A walk that makes every ordered switch between the nodes exactly once and ends where it began."""
    left = {node: [other for other in nodes if other != node] for node in nodes}
    path, walk = [nodes[0]], []
    while path:
        if left[path[-1]]:
            path.append(left[path[-1]].pop())
        else:
            walk.append(path.pop())
    return walk[::-1]
