"""Deployments for acceptance tests: a broker that may be broken, a provider that may be held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rabbitmq import Link, emptied, link
from tests.redisprocess import OwnRedis, own_redis
from tests.standin import StandIn, running

from .underload import use_standin

REDIS, RABBITMQ = "redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)
LIGHT = {"EMBEDDING_BATCH_SIZE": "20", "EMBEDDING_CONCURRENT_WORKERS": "2", "EMBEDDING_FALLBACK_AFTER": "2000"}


@pytest.fixture
def standin() -> Iterator[StandIn]:
    yield from running(latency_ms=50.0)


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnRedis | Link]:
    """A broker that may be broken: Redis, or RabbitMQ where a test asks for it."""
    if getattr(request, "param", REDIS) == REDIS:
        with own_redis(tmp_path) as server:
            yield server
    else:
        with link(emptied(request.getfixturevalue("virtual_host"))) as to_rabbitmq:
            yield to_rabbitmq


@pytest.fixture
def deployment(environment: dict[str, str], standin: StandIn, broken: OwnRedis | Link, tmp_path: Path) -> dict[str, str]:
    its_broker = {"EMBEDDING_BROKER_URL" if isinstance(broken, Link) else "REDIS_URL": broken.url}
    return use_standin(environment | its_broker | {"EMBEDQ_HOME": str(tmp_path / "home")}, standin, **LIGHT)


@pytest.fixture
def plain(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Without workers: the built-in provider, the run's Redis, or RabbitMQ where a test asks for it."""
    if getattr(request, "param", REDIS) != REDIS:
        environment["EMBEDDING_BROKER_URL"] = emptied(request.getfixturevalue("virtual_host"))
    return environment | {"EMBEDQ_HOME": str(tmp_path / "home")}
