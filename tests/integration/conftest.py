"""A claimer: what a worker does to the tables, one step at a time and without its loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest

from embedq.model import Claimed, Delivery, Outcome, Priority, Stored, TaskStatus
from embedq.store import Settled, Store
from tests.support import until

DIMENSIONS = 64


class Claimer:
    """A registered worker. `claim` and `settle` are the store's own; the vectors are made up."""

    def __init__(self, store: Store, delivery: Delivery, lease_s: float = 300.0) -> None:
        self.store, self.delivery = store, delivery
        self.id = store.workers.register(delivery, f"test {delivery}", [], lease_s)

    def claim(self, limit: int = 100, priorities: Sequence[Priority] = tuple(Priority), grace_s: float = 0.0) -> list[Claimed]:
        return self.store.tasks.claim_due(self.id, self.delivery, priorities, limit, grace_s)

    def claim_named(self, *ids: int) -> list[Claimed]:
        return self.store.tasks.claim_named(self.id, self.delivery, ids, 100)

    def settle(self, *outcomes: Outcome) -> Settled:
        return self.store.tasks.settle(self.id, "test", outcomes)

    def settle_done(self, *tasks: Claimed, value: float = 1.0) -> Settled:
        return self.settle(*(done(task, value) for task in tasks))


def done(task: Claimed, value: float = 1.0, dimensions: int = DIMENSIONS) -> Outcome:
    vectors = np.full((1, dimensions), value, dtype=np.float32)
    text = task.text or ""
    return Outcome(task, TaskStatus.COMPLETED, charged=True, stored=Stored(vectors, (0,), (len(text),), (b"hash",), 3))


@pytest.fixture
def poller(store: Store, psql: Any) -> Claimer:
    """A claimer of the poller's, in mode database."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    return Claimer(store, Delivery.POLLER)


@pytest.fixture
def another(store: Store) -> Callable[..., Claimer]:
    return lambda delivery=Delivery.POLLER, **wishes: Claimer(store, delivery, **wishes)


class Session:
    """A second person's connection: statements in one open transaction, or in a thread when they may have to wait."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url)
        self.pid = self.connection.info.backend_pid
        self.watcher = psycopg.connect(url, autocommit=True)
        self.thread = ThreadPoolExecutor(1)

    def do(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def begin(self, statement: str, *parameters: object) -> Future[list[tuple[Any, ...]]]:
        return self.thread.submit(self.do, statement, *parameters)

    def waits(self) -> bool:
        """Whether its statement waits for a lock now."""
        row = self.watcher.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (self.pid,)).fetchone()
        return bool(row and row[0])

    def until_it_waits(self) -> None:
        until(self.waits, why="the statement never waited for a lock")

    def commit(self) -> None:
        self.connection.commit()

    def close(self) -> None:
        self.connection.cancel()
        self.thread.shutdown()
        self.connection.close()
        self.watcher.close()


@pytest.fixture
def session(database_url: str) -> Iterator[Callable[[], Session]]:
    """Makes Sessions; they are closed with the test."""
    made: list[Session] = []

    def make() -> Session:
        made.append(Session(database_url))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit


@pytest.fixture
def lock_waits(psql: Any) -> Callable[[], int]:
    """How many sessions of this database wait for a lock now."""
    return lambda: psql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )[0][0]


@pytest.fixture
def stop_hammering() -> threading.Event:
    return threading.Event()


@pytest.fixture
def add(psql: Any) -> Callable[..., None]:
    """Articles by id, all in one statement."""

    def insert(*ids: str, tenant: str = "default", priority: str = "normal", text: str = "some text") -> None:
        psql("SELECT set_config('embedq.priority', %s, false)", priority)
        psql(
            "INSERT INTO articles (id, tenant_id, title, content) SELECT id, %s, 'title ' || id, %s FROM unnest(%s::text[]) AS id",
            tenant,
            text,
            list(ids),
        )

    return insert


@pytest.fixture
def state(psql: Any) -> Callable[[str], list[tuple[Any, ...]]]:
    """(status, attempts) of an article's tasks, the oldest first."""
    return lambda article: psql("SELECT status, attempts FROM embedding_tasks WHERE article_id = %s ORDER BY id", article)


@pytest.fixture
def without_triggers(admin_url):
    """As pg_restore --disable-triggers writes, or a replica's apply."""

    def run(statement: str) -> None:
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement)

    return run
