"""Real parts for every test: PostgreSQL and Redis from wheels, once per run; a database of its own for each test that asks."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest

from embedq import Client
from embedq.local.servers import Servers
from embedq.settings import Settings, from_env
from embedq.store import Store, schema
from embedq.store.database import Database
from tests import forked
from tests.rabbitmq import MISSING, emptied, own_virtual_host
from tests.support import folder_for_servers

pytest.register_assert_rewrite("tests.acceptance.incidents", "tests.acceptance.operating")

# No setting of the machine reaches a test.
for name in list(os.environ):
    if name.startswith(("EMBEDDING_", "EMBEDQ_", "OPENAI_", "OLLAMA_")) or name in (
        "DATABASE_URL",
        "REDIS_URL",
        "AUTH_TOKEN",
        "ADMIN_TOKEN",
    ):
        del os.environ[name]

# Every process under test would compile embedq anew: a third of what its start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

forked.in_use = sys.platform == "linux"

# A shell without job control starts a background command with SIGINT ignored, which every process under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A database for each test is three hundred files made and removed: on a disk, half of the suite's time. In memory where there is room.
MEMORY, ROOM = "/dev/shm", 6 * 2**30
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    tempfile.tempdir = os.environ["TMPDIR"] = MEMORY

# A busy machine is not a finding: no test here is about speed.
hypothesis.settings.register_profile("embedq", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("embedq")

_numbers = itertools.count(1)
FAST = {
    "max_wal_size": "256MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "5s",
}


# Begun first, so that no core waits for one of them at the end. scripts/test keeps this order (`--no-loadscope-reorder`).
LONGEST = (
    "acceptance/test_hostile_arguments.py",
    "contract/test_openapi.py",
    "contract/test_budget_of_workers.py",
    "integration/test_embedded_security.py",
    "contract/test_ends.py",
    "contract/test_endings.py",
    "acceptance/test_emergency.py",
    "acceptance/test_broken_to_healthy.py",
    "contract/test_brokers.py",
    "integration/test_frozen.py",
    "acceptance/test_commands.py",
    "upgrade/test_without_stopping.py",
    "upgrade/test_commands.py",
    "interleavings/test_pairs.py",
    "interleavings/test_mutants.py",
    "contract/test_failover.py",
    "contract/test_delivery.py",
    "contract/test_models.py",
    "unit/test_sphinx.py",
    "integration/test_births.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with folder_for_servers("embedq-tests-") as home, Servers(home, overrides=FAST) as started:
        # Tests make and drop databases as the application's role; the product's role has no such right.
        with psycopg.connect(started.admin_url, autocommit=True) as admin:
            admin.execute("ALTER ROLE embedq CREATEDB; GRANT pg_signal_backend TO embedq")
        yield started


@pytest.fixture
def admin_url(servers: Servers, database_url: str) -> str:
    """The superuser in this test's database, for what the application's role may not do."""
    return _with_database(servers.admin_url, database_url.rsplit("/", 1)[1])


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """A database with the schema and the model hashing/hashing-v1/64 active, copied for each test."""
    url = _with_database(servers.database_url, "embedq_template")
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE embedq_template")
    database = Database(url)
    schema.upgrade(database)
    store = Store(database)
    from embedq.model import Model

    store.models.agree(Model("hashing", "hashing-v1", 64))
    store.close()
    return "embedq_template"


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@contextmanager
def fresh_database(servers: Servers, template: str) -> Iterator[str]:
    """A database of its own, dropped afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        # Of files, not by WAL: a third of the processor's time, with a template of 300 small files.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # type: ignore[arg-type]
        yield _with_database(servers.database_url, name)
    # As the superuser: a session of his own may still be about to end.
    with psycopg.connect(servers.admin_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """The run's Redis, emptied."""
    import redis

    redis.Redis.from_url(servers.redis_url).flushall()
    return servers.redis_url


@pytest.fixture(scope="session")
def virtual_host() -> Iterator[str]:
    """RabbitMQ's, of this run alone. Skips where there is none."""
    with own_virtual_host() as url:
        if url is None:
            pytest.skip(MISSING)
        yield url


@pytest.fixture
def rabbitmq_url(virtual_host: str) -> str:
    """The run's virtual host, emptied."""
    return emptied(virtual_host)


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    """What a process under test gets: where its servers are, and waits short enough for a test."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "EMBEDDING_PROVIDER": "hashing",
        "EMBEDDING_DIMENSIONS": "64",
        "EMBEDDING_WORKER_INTERVAL": "200",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return from_env(environment)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(Database(database_url, size=8))
    yield opened
    opened.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as opened:
        yield opened


@pytest.fixture
def psql(database_url: str) -> Iterator[Callable[..., list[tuple[object, ...]]]]:
    """Raw SQL as any other program would send it, each statement committed at once."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def run(statement: str, *parameters: object) -> list[tuple[object, ...]]:
            cursor = connection.execute(statement, parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that servers can have their home in."""
    with folder_for_servers("embedq-test-") as folder:
        yield folder


def _with_database(url: str, name: str) -> str:
    return url.rsplit("/", 1)[0] + "/" + name


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parent.parent
