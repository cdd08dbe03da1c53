"""Going from one mode to another, and out of trouble, with a hundred thousand open tasks and busy workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tests.support import run_command

from . import filling
from .figures import Figure, alone
from .world import World, Yard, seconds

FENCE_S, VERIFIED_S = 1.0, 5.0
WHY = ("--yes", "--reason", "benchmark", "--json")


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Whole commands, the start of Python with them. The way back is measured as well."""
    tasks, rounds = (5_000, 1) if quick else (100_000, 5)
    forth, back, emergency = [], [], []
    for _ in range(rounds):
        with world.yard(mode="celery", batch=50) as yard:
            _fill(yard, tasks)
            forth.append(seconds(lambda: _command(yard, "mode", "database")))
            back.append(seconds(lambda: _command(yard, "mode", "celery")))
            emergency.append(seconds(lambda: _command(yard, "rollback", "emergency")))
            assert yard.sql("SELECT mode FROM embedding_worker_status") == [("database",)]
    yield alone(f"`embedq mode database`, {tasks:,} open tasks", "s", forth, at_most=FENCE_S)
    yield alone(f"`embedq mode celery`, {tasks:,} open tasks", "s", back, at_most=FENCE_S)
    yield alone(f"`embedq rollback emergency`, {tasks:,} open tasks", "s", emergency, at_most=VERIFIED_S)


def _fill(yard: Yard, tasks: int) -> None:
    yard.standin.control(latency_ms=500.0)
    filling.articles(yard, 1, tasks)
    filling.waiting(yard, 1, tasks)
    yard.start_workers(4)


def _command(yard: Yard, *words: str) -> Sequence[object]:
    done = run_command(yard.environment, *words, *WHY)
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]
