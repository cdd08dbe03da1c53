"""0.1.0 from its wheel, and an empty database for it to set up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from embedq.local.servers import Servers
from tests.standin import StandIn, running

from .versions import Version
from .versions import before as unpacked
from .versions import current as under_test

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return unpacked(tmp_path_factory.mktemp("embedq-before"))


@pytest.fixture
def current() -> Version:
    return under_test()


@pytest.fixture
def standin() -> Iterator[StandIn]:
    yield from running(latency_ms=30.0)


@pytest.fixture
def bare_url(servers: Servers) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"upgrade_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    yield servers.database_url.rsplit("/", 1)[0] + "/" + name
    with psycopg.connect(servers.admin_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def shop(bare_url: str, redis_url: str, standin: StandIn, tmp_path: Path) -> dict[str, str]:
    """An installation that both versions understand."""
    return {
        "DATABASE_URL": bare_url,
        "REDIS_URL": redis_url,
        "EMBEDDING_PROVIDER": "ollama",
        "OLLAMA_BASE_URL": standin.url,
        "EMBEDDING_DIMENSIONS": str(standin.dimensions),
        "EMBEDDING_WORKER_INTERVAL": "200",
        "EMBEDDING_FALLBACK_AFTER": "2000",
        "EMBEDDING_BATCH_SIZE": "8",
        "EMBEDDING_CONCURRENT_WORKERS": "2",
        "EMBEDQ_HOME": str(tmp_path / "home"),
    }
