"""Both deliveries, as real processes on a stand-in provider over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from embedq.local.servers import Servers
from tests.rabbitmq import emptied
from tests.standin import StandIn
from tests.standin import running as standin_running
from tests.support import Process, folder_for_servers, start_celery, start_poller, until

_numbers = itertools.count(1)
ON_RABBITMQ = "celery on rabbitmq"
MODES = {"celery": "celery", "poller": "database", ON_RABBITMQ: "celery"}
DIMENSIONS = 64


class Delivery:
    """One delivery with a database of its own. `articles` are written as any program would: by SQL."""

    def __init__(self, name: str, url: str, environment: Mapping[str, str], standin: StandIn) -> None:
        self.name, self.environment, self.standin, self.url = name, dict(environment), standin, url
        self.workers: list[Process] = []
        self._connection: psycopg.Connection[Any] | None = None
        self.sql("UPDATE embedding_worker_status SET mode = %s", MODES[name])

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.url, autocommit=True)
        cursor = self._connection.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def start(self, *, concurrency: int | None = None, **environment: str) -> Process:
        start: Callable[..., Process] = start_poller if self.name == "poller" else start_celery
        options = {} if concurrency is None else {"concurrency": concurrency}
        self.workers.append(start(self.environment | environment, **options))
        return self.workers[-1]

    def add(self, texts: Mapping[str, str]) -> None:
        """Articles by id, without a title: the text is what is embedded."""
        self.sql(
            "INSERT INTO articles (id, content) SELECT * FROM unnest(%s::text[], %s::text[])", list(texts), list(texts.values())
        )

    def states(self) -> dict[str, int]:
        return dict(self.sql("SELECT status, count(*) FROM embedding_tasks GROUP BY 1"))

    def until_idle(self, timeout_s: float = 30.0) -> dict[str, int]:
        """Wait until nothing is open; what became of the tasks."""
        until(lambda: not self.states().keys() & {"pending", "processing"}, timeout_s, self.story)
        return self.states()

    def until_states(self, timeout_s: float = 30.0, **wanted: int) -> None:
        until(lambda: self.states() == wanted, timeout_s, self.story)

    def stored(self) -> dict[str, list[float]]:
        rows = self.sql("SELECT article_id, embedding::text FROM embedding_vectors ORDER BY 1")
        return {article: [float(number) for number in text[1:-1].split(",")] for article, text in rows}

    def provider(self) -> dict[str, Any]:
        names = ("faults", "paused", "why")
        rows = self.sql(
            "SELECT faults, paused_until > clock_timestamp(), pause_reason FROM embedding_providers WHERE name = 'openai'"
        )
        return dict(zip(names, rows[0], strict=True))

    def story(self) -> str:
        rows = self.sql(
            "SELECT id, article_id, status, attempts, error_message, dispatched_at FROM embedding_tasks ORDER BY id LIMIT 8"
        )
        said = "\n".join(worker.output()[-3000:] for worker in self.workers)
        return f"{self.states()} {rows} {self.provider()} {self.standin.stats()}\n{said}"

    def clear(self) -> None:
        """As new, with its workers running on."""
        self.standin.reset()
        self.sql("UPDATE embedding_worker_status SET is_running = true, mode = %s", MODES[self.name])
        self.sql("DELETE FROM articles")
        self.sql("DELETE FROM embedding_tasks")
        self.sql("DELETE FROM embedding_audit_logs")
        self.sql("UPDATE embedding_providers SET faults = 0, paused_until = NULL, pause_reason = NULL, probe_until = NULL")

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        if self._connection is not None:
            self._connection.close()


def make_database(servers: Servers, template: str) -> str:
    """A database whose active model is the stand-in's; its URL."""
    name = f"contract_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # type: ignore[arg-type]
    url = servers.database_url.rsplit("/", 1)[0] + "/" + name
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE embedding_models SET kept_in_step = false")
        connection.execute(
            "UPDATE embedding_active_model SET model_id = embedq_add_model('openai', 'text-embedding-3-small', %s)",
            (DIMENSIONS,),
        )
    return url


def delivery_environment(url: str, redis_url: str, standin: StandIn) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": "text-embedding-3-small",
        "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "OPENAI_API_KEY": "sk-of-the-tests",
        "OPENAI_BASE_URL": standin.openai_url,
        "EMBEDDING_WORKER_INTERVAL": "200",
        "EMBEDDING_RETRY_BACKOFF_BASE": "50",
        "EMBEDDING_RETRY_BACKOFF_MAX": "200",
        "EMBEDDING_CONCURRENT_WORKERS": "2",
    }


@pytest.fixture(scope="module")
def provider_process() -> Iterator[StandIn]:
    yield from standin_running(dimensions=DIMENSIONS)


@pytest.fixture(scope="module", params=["celery", "poller"])
def place(
    request: pytest.FixtureRequest, servers: Servers, template: str, provider_process: StandIn
) -> Iterator[Callable[[], Delivery]]:
    """Makes the delivery of this parameter, with a database of its own and an empty broker."""
    import redis

    with ExitStack() as made:

        def make() -> Delivery:
            redis.Redis.from_url(servers.redis_url).flushall()
            url = make_database(servers, template)
            environment = delivery_environment(url, servers.redis_url, provider_process)
            if request.param == ON_RABBITMQ:
                environment["EMBEDDING_BROKER_URL"] = emptied(request.getfixturevalue("virtual_host"))
            delivery = Delivery(request.param, url, environment, provider_process)
            made.callback(delivery.close)
            return delivery

        yield make


@pytest.fixture(scope="module")
def lasting(place: Callable[[], Delivery]) -> Delivery:
    delivery = place()
    delivery.start()
    return delivery


@pytest.fixture
def delivery(lasting: Delivery) -> Delivery:
    """A delivery whose one worker runs, shared by the tests of a module; emptied before each."""
    lasting.clear()
    return lasting


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """Servers that a test may stop."""
    from tests.conftest import FAST

    with folder_for_servers("embedq-own-") as home, Servers(home, overrides=FAST) as started:
        yield started


@pytest.fixture(params=["celery", "poller"])
def on_own_servers(request: pytest.FixtureRequest, own_servers: Servers, provider_process: StandIn) -> Iterator[Delivery]:
    """A delivery on servers that may be stopped, without a worker yet."""
    import redis

    from embedq.model import Model
    from embedq.store import Store, schema
    from embedq.store.database import Database

    database = Database(own_servers.database_url)
    schema.upgrade(database)
    Store(database).models.agree(Model("openai", "text-embedding-3-small", DIMENSIONS))
    redis.Redis.from_url(own_servers.redis_url).flushall()
    environment = delivery_environment(own_servers.database_url, own_servers.redis_url, provider_process)
    delivery = Delivery(request.param, own_servers.database_url, environment, provider_process)
    delivery.standin.reset()
    yield delivery
    delivery.close()
    schema.downgrade(database)
    database.close()


@pytest.fixture
def fresh(place: Callable[[], Delivery]) -> Iterator[Delivery]:
    """A delivery without a worker yet, for tests that end workers and servers."""
    made = place()
    made.standin.reset()
    yield made
    made.close()
