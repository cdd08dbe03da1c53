"""The world of the chaos: servers that can be killed, workers that are started again, the stand-in provider."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from embedq.engine.requests import CANARY
from embedq.local.servers import Servers
from embedq.model import Model
from embedq.settings import Settings, from_env
from embedq.store import Store, schema
from embedq.store.database import Database
from tests.standin import StandIn
from tests.support import Process, folder_for_servers, start_celery, start_poller, until

DIMENSIONS = 64
BATCH, CONCURRENCY = 8, 2
MODEL = Model("openai", "text-embedding-3-small", DIMENSIONS)
# A commit that was answered must survive SIGKILL of PostgreSQL (but not of the machine: nothing waits for the disk).
POSTGRES = {"fsync": "off", "synchronous_commit": "on", "autovacuum_naptime": "5s"}
# A worker that was asked to end has so long: a request to the provider, a settle, a hand-back.
END_WITHIN_S = 40.0
GOOD: Mapping[str, Any] = {
    "latency_ms": 150.0,
    "latency_per_input_ms": 10.0,
    "fail_always": False,
    "fail_next": 0,
    "fail_headers": {},
    "twist": None,
    "markers": {"unembeddable-by-content": "refuse", "breaks-the-provider": "break"},
}


@dataclass
class Member:
    """A worker process that is started again whenever it ends."""

    name: str
    start: Callable[[], Process]
    process: Process
    frozen: bool = False
    struck: bool = False
    asked_to_end_at: float | None = None
    starts: int = 1


@dataclass
class World:
    """Servers, workers and provider of one run. As a context manager everything in it ends with the block."""

    servers: Servers
    standin: StandIn
    settings: Settings
    environment: Mapping[str, str]
    store: Store
    logs: Path
    dice: Random
    members: list[Member] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)
    outages: list[list[float]] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    impossible: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    paid_before: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # PostgreSQL ----------------------------------------------------------------------------------------------------------------

    def connect(self, patience_s: float = 5.0) -> psycopg.Connection[Any]:
        """A connection of the tools' and the writers' own; on a busy machine the first try may not be answered in time."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return psycopg.connect(self.servers.database_url, autocommit=True, application_name="chaos", connect_timeout=3)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """PostgreSQL is away, or cuts connections: saves in this time may fail."""
        ends = self.outage_begins()
        try:
            yield
        finally:
            ends()

    def outage_begins(self) -> Callable[[], None]:
        """Returns what ends it."""
        span = [time.monotonic(), float("inf")]
        self.outages.append(span)
        return lambda: span.__setitem__(1, time.monotonic())

    def was_away(self, since: float, until_: float) -> bool:
        return any(begins <= until_ and since <= ends for begins, ends in self.outages)

    def wait_for_postgres(self, timeout_s: float = 60.0) -> None:
        def answers() -> bool:
            with suppress(psycopg.Error), self.connect(patience_s=0.0):
                return True
            return False

        until(answers, timeout_s, "PostgreSQL does not answer")

    # The provider --------------------------------------------------------------------------------------------------------------

    def provider_good(self) -> None:
        self.standin.control(**GOOD)

    def provider_bad(self, **wishes: Any) -> None:
        self.standin.control(**{**GOOD, **wishes})

    def note_paid(self) -> None:
        """The stand-in forgets when it is stopped; what it was paid for is kept here."""
        self.paid_before.update(self.standin.paid())

    def paid(self) -> Counter[str]:
        found = self.paid_before + Counter(self.standin.paid())
        del found[CANARY]
        return found

    # Workers -------------------------------------------------------------------------------------------------------------------

    def start_members(self) -> None:
        for number in (1, 2):
            self._join(f"celery-{number}", lambda: start_celery(self.environment, concurrency=CONCURRENCY, ready=False))
            self._join(f"poller-{number}", lambda: start_poller(self.environment, ready=False))
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def _join(self, name: str, start: Callable[[], Process]) -> None:
        self.members.append(Member(name, start, start()))

    def _keep(self) -> None:
        while not self.ending.wait(0.1):
            with self.lock:
                if self.ending.is_set():
                    return  # while we waited for the lock
                for member in self.members:
                    self._look_after(member)

    def _look_after(self, member: Member) -> None:
        asked = member.asked_to_end_at
        if member.process.runs:
            if asked is not None and not member.frozen and time.monotonic() - asked > END_WITHIN_S:
                self.complaints.append(f"{member.name} did not end within {END_WITHIN_S:g} s of TERM")
                self.strike(member)
            return
        # TERM before the program has learnt what to do about it ends it by the signal's own hand.
        if not member.struck and (asked is None or member.process.exit_code not in (0, -signal.SIGTERM)):
            self.complaints.append(
                f"{member.name} ended by itself with {member.process.exit_code}, see {self._log(member).name}"
            )
        self.keep_log(member)
        member.process.kill()
        member.starts, member.frozen, member.struck, member.asked_to_end_at = member.starts + 1, False, False, None
        member.process = member.start()

    def strike(self, member: Member) -> None:
        """SIGKILL."""
        with self.lock:
            member.struck = True
            member.process.kill()

    def freeze(self, member: Member) -> None:
        with self.lock:
            member.frozen = True
            member.process.stop_still()

    def thaw(self, member: Member) -> None:
        with self.lock, suppress(ProcessLookupError):
            member.frozen = False
            member.process.go_on()

    def ask_to_end(self, member: Member) -> None:
        with self.lock, suppress(ProcessLookupError):
            member.asked_to_end_at = member.asked_to_end_at or time.monotonic()
            member.process.signal(signal.SIGTERM)

    def leader(self) -> Member | None:
        """Who keeps house now."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT pid FROM embedding_workers WHERE steward_since IS NOT NULL AND alive_until > clock_timestamp()"
                " ORDER BY steward_since DESC LIMIT 1"
            ).fetchone()
        return next((member for member in self.members if row and member.process.pid == row[0]), None)

    def busiest(self) -> Member | None:
        """Who holds most tasks now."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT w.pid FROM embedding_tasks t JOIN embedding_workers w ON w.id = t.lease_holder WHERE t.status = 'processing'"
                " GROUP BY w.pid ORDER BY count(*) DESC LIMIT 1"
            ).fetchone()
        return next((member for member in self.members if row and member.process.pid == row[0]), None)

    def _log(self, member: Member) -> Path:
        return self.logs / f"{member.name}-{member.starts}.log"

    def keep_log(self, member: Member) -> None:
        self._log(member).write_text(member.process.output(), encoding="utf-8")

    def end(self) -> None:
        self.stopping.set()
        self.ending.set()
        with self.lock:
            for member in self.members:
                self.keep_log(member)
                member.process.kill()


@contextmanager
def world(logs: Path, seed: int) -> Iterator[World]:
    """Everything started and set up; the workers' output is kept in `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    with folder_for_servers("embedq-chaos-") as home, Servers(home, on_line=_to(logs), overrides=POSTGRES) as servers:
        standin = StandIn(DIMENSIONS).start()
        made = _made(servers, standin, logs, seed)
        try:
            made.provider_good()
            made.start_members()
            yield made
        finally:
            made.end()
            made.store.close()
            standin.stop()


def _to(logs: Path) -> Callable[[str, str], None]:
    def keep(name: str, line: str) -> None:
        with (logs / f"{name}.log").open("a", encoding="utf-8") as sink:
            print(line, file=sink)

    return keep


def _made(servers: Servers, standin: StandIn, logs: Path, seed: int) -> World:
    environment = _environment(servers, standin)
    schema.upgrade(Database(servers.database_url))
    store = Store(Database(servers.database_url, name="chaos"))
    store.models.agree(MODEL)
    return World(servers, standin, from_env(environment), environment, store, logs, Random(f"{seed} world"))


def _environment(servers: Servers, standin: StandIn) -> dict[str, str]:
    return {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "EMBEDDING_PROVIDER": MODEL.provider,
        "EMBEDDING_MODEL": MODEL.name,
        "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "OPENAI_BASE_URL": standin.openai_url,
        "OPENAI_API_KEY": "chaos",
        "EMBEDDING_WORKER_INTERVAL": "300",
        # A request may take a tenth of it.
        "EMBEDDING_WORKER_TIMEOUT": "15000",
        "EMBEDDING_BATCH_SIZE": str(BATCH),
        "EMBEDDING_CONCURRENT_WORKERS": str(CONCURRENCY),
        "EMBEDDING_RETRY_BACKOFF_BASE": "50",
        "EMBEDDING_RETRY_BACKOFF_MAX": "500",
        "EMBEDDING_FALLBACK_AFTER": "2000",
        "EMBEDDING_QUEUE_MAX_DEPTH": "60",
        "EMBEDDING_TENANT_MAX_PENDING": "30",
    }
