"""A new user finds everything broken at once, and does nothing but what `status`, `explain` and errors suggest."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from embedq import Client
from embedq.cli.voice import MISUSED, NOT_WELL
from embedq.decide.facts import Level
from embedq.model import ArticleDraft, Delivery
from embedq.settings import from_env
from embedq.store import Store
from tests.rabbitmq import Link
from tests.redisprocess import OwnRedis
from tests.standin import StandIn
from tests.support import Process, start_celery, start_poller, until

from .conftest import RABBITMQ, REDIS
from .underload import Ran, embedq

REFUSED, BROKEN, GOOD = 30, 20, 60
PATIENCE = {"wait": ["--timeout", "2"], "retry": ["--canary-timeout", "5"]}
QUICK_TO_GIVE_UP = {"EMBEDDING_MAX_RETRIES": "1", "EMBEDDING_RETRY_BACKOFF_BASE": "100", "EMBEDDING_BATCH_SIZE": "10"}


@dataclass
class NewUser:
    """Knows what is printed, and one thing more: how to start the provider. `did`: every command that was followed."""

    environment: Mapping[str, str]
    standin: StandIn
    started: ExitStack
    did: list[str] = field(default_factory=list)
    provider_is_back: bool = False

    def ask(self, *words: str) -> Ran:
        return embedq(self.environment, *words, "--json")

    def finding(self, level: Level) -> dict[str, Any] | None:
        """The first of this level that `embedq status` tells."""
        found = self.ask("status").json["findings"]
        return next((finding for finding in found if finding["level"] == level), None)

    def sees_a_celery_worker(self) -> bool:
        return any(worker["delivery"] == Delivery.CELERY for worker in self.ask("status").json["workers"])

    def explained(self, key: str) -> dict[str, Any]:
        """The first reason why this article is not searchable."""
        reason: dict[str, Any] = self.ask("explain", key).json["reasons"][0]
        return reason

    def trouble(self, store: Store) -> dict[str, Any] | None:
        """What to look at next: a problem, else an article that is not done, else a note: a text that was tried while the provider was
        away fails by itself later, and one failure is no problem. None when nothing is left to do."""
        waiting = store.database.fetch(
            "SELECT article_id FROM embedding_tasks WHERE status IN ('pending', 'processing') LIMIT 1"
        )
        return self.finding(Level.PROBLEM) or (
            self.explained(waiting[0]["article_id"]) if waiting else self.finding(Level.NOTE)
        )

    def follow(self, finding: Mapping[str, Any]) -> None:
        if finding["next"] == "nothing to do":
            return
        steps = commands(finding["next"])
        assert steps, f"no command is suggested: {finding}"
        if any("CLASS" in step for step in steps):
            self.deal_with_failures(steps)
        else:
            self.run(steps[0])

    def run(self, step: Sequence[str]) -> Ran | None:
        self.did.append(shlex.join(step))
        if step[0] == "celery":
            worker = self.started.enter_context(Process("celery", [sys.executable, "-m", *step], self.environment))
            until(self.sees_a_celery_worker, 30, worker.output)
            return None
        done = embedq(self.environment, *step[1:], *PATIENCE.get(step[1], ()))
        assert done.exit_code != MISUSED, f"{shlex.join(step)} does not work as printed: {done.err}"
        if step[1:] == ["provider", "check"] and not self.provider_is_back:
            self.bring_the_provider_back(done)
        return done

    def bring_the_provider_back(self, check: Ran) -> None:
        assert check.exit_code == NOT_WELL
        assert "cannot be reached" in check.out
        self.standin.start()
        self.standin.control(markers={"poison": "refuse"})
        self.provider_is_back = True

    def deal_with_failures(self, steps: Sequence[list[str]]) -> None:
        """Look; then for each kind of error the cure, and when its canary fails for its own fault, give it up."""
        look, cure, give_up = steps
        self.run(look)
        for kind in {row["error_class"] for row in self.ask(*look[1:]).json}:
            canary = self.run([word.replace("CLASS", kind) for word in cure])
            assert canary is not None
            if canary.exit_code != NOT_WELL:
                continue
            (explain,) = commands(canary.err)
            reason = self.explained(explain[2])
            if "its task failed" in reason["what"]:
                self.run([word.replace("CLASS", kind) for word in give_up])
            else:
                self.follow(reason)


def commands(suggestion: str) -> list[list[str]]:
    """What it says to type: what stands between backticks, or all of it. A reason is for the user to give."""
    quoted = re.findall(r"`((?:embedq|celery) [^`]*)`", suggestion)
    bare = [suggestion] if re.match(r"(embedq|celery) ", suggestion) else []
    return [shlex.split(text.replace("…", "following-the-advice")) for text in quoted or bare]


def put(deployment: Mapping[str, str], name: str, number: int) -> list[str]:
    with Client(from_env(deployment)) as client:
        client.put([ArticleDraft(f"{name} {n}", f"{name} text {n}", id=f"{name}{n:02}") for n in range(number)])
    return [f"{name}{n:02}" for n in range(number)]


def states(store: Store) -> dict[str, int]:
    rows = store.database.fetch("SELECT status, count(*) AS tasks FROM embedding_tasks GROUP BY status")
    return {row["status"]: row["tasks"] for row in rows}


def articles(store: Store, name: str) -> set[str]:
    rows = store.database.fetch(
        "SELECT DISTINCT embedding_status AS state FROM articles WHERE id LIKE %(like)s", {"like": f"{name}%"}
    )
    return {row["state"] for row in rows}


def living(store: Store, delivery: Delivery) -> list[dict[str, Any]]:
    return [worker for worker in store.workers.all() if worker["alive"] and worker["delivery"] == delivery]


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as started:
        yield started


@pytest.fixture
def wreck(
    deployment: dict[str, str], standin: StandIn, broken: OwnRedis | Link, store: Store, processes: ExitStack
) -> dict[str, str]:
    """Fifty failed tasks of two kinds; a stopped worker with tasks in its hands, an emptied broker, a provider that is gone."""
    known = deployment | QUICK_TO_GIVE_UP
    standin.control(markers={"poison": "refuse", "bomb": "break"}, latency_ms=0.0)
    worker = processes.enter_context(start_celery(known))
    until(lambda: any(each["steward_since"] for each in living(store, Delivery.CELERY)), why="nobody leads")
    processes.enter_context(start_poller(known, ready=False))
    put(known, "poison", REFUSED)
    put(known, "bomb", BROKEN)
    until(lambda: states(store) == {"failed": REFUSED + BROKEN}, 40, lambda: states(store))
    standin.hold()
    put(known, "good", GOOD)
    standin.wait_until_held(1)
    worker.stop_still()
    standin.kill()
    broken.wipe()
    until(lambda: not living(store, Delivery.CELERY), why="the stopped worker keeps its lease")
    return known


@pytest.mark.parametrize("broken", [REDIS, RABBITMQ], indirect=True)
def test_a_new_user_comes_from_a_wreck_to_a_healthy_system_by_what_is_suggested_alone(
    wreck: dict[str, str], standin: StandIn, store: Store, processes: ExitStack
) -> None:
    user = NewUser(wreck, standin, processes)
    (held,) = store.database.fetch("SELECT article_id FROM embedding_tasks WHERE status = 'processing' LIMIT 1")

    user.follow(user.explained(held["article_id"]))
    while (finding := user.trouble(store)) is not None:
        assert len(user.did) < 40, f"the advice leads nowhere: {user.did}; {finding}"
        user.follow(finding)

    assert user.ask("health").exit_code == 0
    assert user.ask("verify").exit_code == 0
    assert articles(store, "good") == articles(store, "bomb") == {"ready"}, user.did
    assert states(store) == {"completed": GOOD + BROKEN, "cancelled": REFUSED}, user.did
    # A poller's steward may have been faster than the user: then there is nothing left to reset.
    assert user.did[0].startswith(("embedq reset-stuck", "celery ")), user.did
    assert {"embedq provider check", "embedq failed --details"} <= set(user.did)
    assert any(step.startswith("celery ") for step in user.did)
