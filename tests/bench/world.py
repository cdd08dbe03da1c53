"""What a benchmark runs on: servers as `embedq up` runs them, the stand-in provider in its own process, workers as processes."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis

from embedq.local.servers import Servers
from embedq.model import Model, Priority
from embedq.settings import Settings, from_env
from embedq.store import Store, schema
from embedq.store.database import Database
from tests.standin import StandIn
from tests.support import Process, folder_for_servers, start_celery, start_poller, until

# As durable as the product's own servers; more memory than theirs, because three million rows are nobody's first try.
POSTGRES = {"shared_buffers": "512MB", "max_wal_size": "8GB", "maintenance_work_mem": "512MB"}
_numbers = itertools.count(1)


@dataclass
class Yard:
    """One database with its workers. `mode` is the live mode; workers are started for it and end with the yard."""

    url: str
    redis_url: str
    environment: dict[str, str]
    standin: StandIn
    mode: str
    workers: list[Process] = field(default_factory=list)
    _connection: psycopg.Connection[Any] | None = None

    @property
    def connection(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.url, autocommit=True)
        return self._connection

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def number(self, statement: str, *parameters: object) -> float:
        return float(self.sql(statement, *parameters)[0][0])

    @property
    def settings(self) -> Settings:
        return from_env(self.environment)

    @contextmanager
    def store(self, *, of_a_worker: bool = False) -> Iterator[Store]:
        opened = Store(Database(self.url, by_index=of_a_worker))
        try:
            yield opened
        finally:
            opened.close()

    def start_workers(self, threads: int = 4, *, queues: Sequence[str] = tuple(Priority)) -> None:
        """So many threads in all, in the processes that the mode needs; returns when they are ready."""
        share = threads // 2 if self.mode == "hybrid" else threads
        if self.mode in ("celery", "hybrid"):
            self.workers.append(start_celery(self.environment, queues=queues, concurrency=share))
        if self.mode in ("database", "hybrid"):
            environment = self.environment | {"EMBEDDING_CONCURRENT_WORKERS": str(share)}
            self.workers.append(start_poller(environment, queues=queues))
        self.until_registered(len(self.workers))

    def until_registered(self, workers: int) -> None:
        until(lambda: self.number("SELECT count(*) FROM embedding_workers") >= workers, 30, "the workers did not register")

    def add_articles(self, count: int, *, prefix: str = "a", priority: str = "normal", words: int = 12) -> None:
        """Short articles in one statement, as a bulk load would write them."""
        self.sql("SELECT set_config('embedq.priority', %s, false)", priority)
        self.sql(
            "INSERT INTO articles (id, title, content) SELECT %s || n, 'Article ' || n, repeat('some short text ', %s) || n"
            " FROM generate_series(1, %s::int) n",
            prefix,
            words // 3,
            count,
        )

    def open_tasks(self) -> int:
        return int(self.number("SELECT count(*) FROM embedding_tasks WHERE status IN ('pending', 'processing')"))

    def until_embedded(self, timeout_s: float = 300.0) -> None:
        until(self._is_idle, timeout_s, lambda: f"{self.open_tasks()} tasks are open\n{self.said()}")

    def _is_idle(self) -> bool:
        # One row, not a count: the looking must not load the machine. Then not again at once, for the same reason.
        if not self.sql("SELECT 1 FROM embedding_tasks WHERE status IN ('pending', 'processing') LIMIT 1"):
            return True
        time.sleep(0.05)
        return False

    def said(self) -> str:
        return "\n".join(worker.output()[-2000:] for worker in self.workers)

    def end_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.workers = []

    def close(self) -> None:
        self.end_workers()
        if self._connection is not None:
            self._connection.close()


class World:
    """Servers and provider of one run. As a context manager everything in it ends with the block."""

    def __init__(self) -> None:
        self._parts = ExitStack()

    def __enter__(self) -> World:
        home = self._parts.enter_context(folder_for_servers("embedq-bench-"))
        self.home = home
        self.servers = self._parts.enter_context(Servers(home, overrides=POSTGRES))
        self.standin = StandIn().start()
        self._parts.callback(self.standin.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    @contextmanager
    def yard(self, *, mode: str = "database", dimensions: int = 64, batch: int = 100, **environment: str) -> Iterator[Yard]:
        """A fresh database in this mode, an empty broker, a provider that answers at once. The database is dropped afterwards."""
        name = f"bench_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.servers.admin_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER embedq")  # type: ignore[arg-type]
            url = self.servers.database_url.rsplit("/", 1)[0] + "/" + name
            redis.Redis.from_url(self.servers.redis_url).flushall()
            self.standin.reset()
            _set_up(url, dimensions, mode)
            yard = Yard(
                url, self.servers.redis_url, self._environment(url, dimensions, batch) | environment, self.standin, mode
            )
            try:
                yield yard
            finally:
                yard.close()
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]

    def _environment(self, url: str, dimensions: int, batch: int) -> dict[str, str]:
        return {
            "DATABASE_URL": url,
            "REDIS_URL": self.servers.redis_url,
            "EMBEDDING_PROVIDER": "openai",
            "EMBEDDING_MODEL": "text-embedding-3-small",
            "EMBEDDING_DIMENSIONS": str(dimensions),
            "OPENAI_API_KEY": "sk-of-the-benchmark",
            "OPENAI_BASE_URL": self.standin.openai_url,
            "EMBEDDING_BATCH_SIZE": str(batch),
            # As installed: compiled once, not at each start.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.home / "compiled"),
        }


def _set_up(url: str, dimensions: int, mode: str) -> None:
    store = Store(Database(url))
    schema.upgrade(store.database)
    store.models.agree(Model("openai", "text-embedding-3-small", dimensions))
    store.database.execute("UPDATE embedding_worker_status SET mode = %(mode)s", {"mode": mode})
    store.close()


def side_by_side(rounds: int, what: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each of these `rounds` times, in turn and in alternating order, so that whatever the machine does meanwhile hurts all of them."""
    found: dict[str, list[float]] = {name: [] for name in what}
    for number in range(rounds):
        names: Sequence[str] = list(what) if number % 2 == 0 else list(reversed(what))
        for name in names:
            found[name].append(what[name]())
    return found


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
