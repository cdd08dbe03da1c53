"""Deployments for acceptance tests: a Redis that may be broken, a provider that may be held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redisprocess import OwnRedis, own_redis
from tests.standin import StandIn, running

from .underload import use_standin

LIGHT = {"EMBEDDING_BATCH_SIZE": "20", "EMBEDDING_CONCURRENT_WORKERS": "2", "EMBEDDING_FALLBACK_AFTER": "2000"}


@pytest.fixture
def standin() -> Iterator[StandIn]:
    yield from running(latency_ms=50.0)


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis that may be broken."""
    with own_redis(tmp_path) as server:
        yield server


@pytest.fixture
def deployment(environment: dict[str, str], standin: StandIn, broken: OwnRedis, tmp_path: Path) -> dict[str, str]:
    return use_standin(environment | {"REDIS_URL": broken.url, "EMBEDQ_HOME": str(tmp_path / "home")}, standin, **LIGHT)


@pytest.fixture
def plain(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Without workers: the built-in provider, the run's Redis."""
    return environment | {"EMBEDQ_HOME": str(tmp_path / "home")}
