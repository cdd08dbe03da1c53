"""From what `embedq status` tells to a system that is well, by what is printed alone: the key is wrong, Redis is full.

Provider, dead letters and stuck worker: test_broken_to_healthy.py. Full disk: test_disk_full.py. Half of the schema gone: test_uninstall.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from tests.redisprocess import OwnRedis
from tests.standin import StandIn
from tests.support import start_celery, start_poller, until

from .operating import answered, invoked
from .test_no_progress import full, put

Psql = Callable[..., list[tuple[Any, ...]]]


def problem(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The first problem that `embedq status` tells."""
    found = answered(environment, "status")["findings"]
    return next((each for each in found if each["level"] == "problem"), None)


def advised(found: Mapping[str, Any] | None) -> list[str]:
    """The words of the first command that a finding advises, without `embedq`; the reason is the reader's."""
    assert found is not None
    quoted = re.findall(r"`embedq ([^`]*)`", found["next"]) or [found["next"].removeprefix("embedq ")]
    return shlex.split(quoted[0].replace("…", "as-advised"))


def well(environment: Mapping[str, str]) -> bool:
    return problem(environment) is None and answered(environment, "health")["well"] is True


def test_a_wrong_key(deployment: dict[str, str], psql: Psql, standin: StandIn) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    standin.control(require_key="sk-test", latency_ms=0.0)
    wrong = deployment | {"OPENAI_API_KEY": "sk-wrong"}
    put(psql)
    with start_poller(wrong) as poller:
        until(lambda: problem(wrong), why=poller.output)
        first = problem(wrong)
        checks = answered(wrong, *advised(first), code=3)["checks"]

    assert advised(first) == ["provider", "check"]
    assert any("check the API key" in (each["next"] or "") for each in checks), checks
    with start_poller(deployment) as poller:
        # A pause for a wrong key lasts a minute, and status says how long: it is not waited for here.
        psql("UPDATE embedding_providers SET paused_until = now()")
        psql("UPDATE embedding_tasks SET scheduled_at = now()")
        until(lambda: psql("SELECT DISTINCT embedding_status FROM articles") == [("ready",)], why=poller.output)
        until(lambda: well(deployment), why=lambda: answered(deployment, "status"))


def test_a_redis_that_is_full(deployment: dict[str, str], broken: OwnRedis, psql: Psql) -> None:
    with start_celery(deployment) as worker:
        until(lambda: psql("SELECT 1 FROM embedding_workers WHERE steward_since IS NOT NULL"), why=worker.output)
        full(broken)
        put(psql)
        until(lambda: problem(deployment), why=worker.output)
        first = problem(deployment)
        invoked(deployment, *advised(first), "--yes")
        second = problem(deployment)

        assert first is not None
        assert "raise maxmemory" in first["next"]
        assert advised(first)[:2] == ["mode", "database"]
        assert advised(second) == ["poller"]
        with start_poller(deployment) as poller:
            until(lambda: psql("SELECT DISTINCT embedding_status FROM articles") == [("ready",)], why=poller.output)
            until(lambda: well(deployment), why=lambda: answered(deployment, "status"))
