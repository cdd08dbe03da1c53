"""Modes are switched under load: every ordered pair of modes, workers of both deliveries at work, articles being written; on
RabbitMQ every pair of those that have workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedq.decide.modes import deliveries, dispatches
from embedq.decide.switching import switched_off
from embedq.model import Delivery, Mode
from embedq.store import Store
from tests.standin import StandIn, running

from .underload import Writer, embedq, facts, fleet, tour, use_standin, wait_until

# SWITCHING_AT_FULL_SIZE=1: 20,000 open tasks all the time and four workers of each kind, some minutes; pytest -s prints the figures.
FULL = bool(os.environ.get("SWITCHING_AT_FULL_SIZE"))
BATCH, THREADS, EACH = 5, 2, 4 if FULL else 2
OPEN_AT_FIRST, KEPT_OPEN, END_WITHIN_S = (20_000, 19_500, 400) if FULL else (3000, 400, 60)
WITH_WORKERS = [Mode.CELERY, Mode.DATABASE, Mode.HYBRID]
LIGHT = {"EMBEDDING_BATCH_SIZE": str(BATCH), "EMBEDDING_CONCURRENT_WORKERS": str(THREADS), "EMBEDDING_FALLBACK_AFTER": "2000"}


@pytest.fixture
def standin() -> Iterator[StandIn]:
    yield from running(latency_ms=150.0)


@pytest.fixture
def deployment(plain: dict[str, str], standin: StandIn) -> dict[str, str]:
    return use_standin(plain, standin, **LIGHT)


@dataclass
class Figures:
    """One switch: how long the command took (`command_s` with the start of its process, `switch_s` without), and how long after
    its return the first task of the new delivery was done."""

    before: str
    after: str
    command_s: float
    switch_s: float
    fence_s: float
    first_s: float | None
    freed: int


def switch_and_watch(deployment: dict[str, str], store: Store, after: str, hold_s: float) -> Figures:
    ran = embedq(deployment, "mode", after, "--reason", "a test of switching", "--json")
    assert ran.exit_code == 0, ran.err
    said = ran.json
    first_s = first_done_after(store, ran.returned_at, deliveries(Mode(after)))
    time.sleep(hold_s)
    off = switched_off(Mode(said["before"]), Mode(after)) | (set(Delivery) - deliveries(Mode(after)))
    assert claims_after(store, ran.returned_at, off) == 0, f"{said['before']} -> {after}: a delivery that is off has claimed"
    if not dispatches(Mode(after)):
        wait_until(lambda: store.switches.counts()["with_broker"] == 0, 10, "every task back in the table")
    return Figures(said["before"], after, ran.seconds, said["seconds"], said["fenced_s"], first_s, said["freed"])


def first_done_after(store: Store, moment: float, by: frozenset[Delivery]) -> float | None:
    """Seconds from the moment until one of these deliveries has completed a task that it claimed after it."""
    if not by:
        return None
    found: list[float] = []

    def seen() -> bool:
        row = store.database.one(
            "SELECT extract(epoch FROM min(completed_at)) AS at FROM embedding_tasks"
            " WHERE status = 'completed' AND delivery = ANY (%(by)s) AND completed_at > to_timestamp(%(moment)s)",
            {"by": list(by), "moment": moment},
        )
        found.extend([float(row["at"])] if row and row["at"] is not None else [])
        return bool(found)

    wait_until(seen, 20, f"the first task by {', '.join(sorted(by))}")
    return found[0] - moment


def claims_after(store: Store, moment: float, by: set[Delivery] | frozenset[Delivery]) -> int:
    row = store.database.one(
        "SELECT count(*) AS claims FROM embedding_tasks WHERE delivery = ANY (%(by)s) AND processed_at > to_timestamp(%(moment)s)",
        {"by": list(by), "moment": moment},
    )
    assert row is not None
    return int(row["claims"])


@pytest.mark.timeout(1200 if FULL else 300)
@pytest.mark.parametrize(
    ("plain", "modes"),
    [
        pytest.param("redis", list(Mode), id="all twenty, on Redis"),
        pytest.param("rabbitmq", WITH_WORKERS, id="six, on RabbitMQ", marks=pytest.mark.rabbitmq),
    ],
    indirect=["plain"],
)
def test_switches_under_load_lose_nothing(
    modes: list[Mode], deployment: dict[str, str], store: Store, standin: StandIn, tmp_path: Path
) -> None:
    writer = Writer(deployment, at_least=KEPT_OPEN)
    writer.fill(OPEN_AT_FIRST * len(modes) // len(Mode))

    figures: list[Figures] = []
    with fleet(deployment, tmp_path, store, celery=EACH, pollers=EACH), writer:
        figures += [switch_and_watch(deployment, store, after, hold_s=0.5) for after in tour(modes)[1:]]
        writer.__exit__()
        standin.control(latency_ms=0)
        embedq(deployment, "reconcile", "--yes", "--reason", "the end of a test")
        wait_until(lambda: sum(store.switches.counts().values()) == 0, END_WITHIN_S, "the end of all tasks")

    told(figures, writer, standin)
    ended = facts(store)
    assert (ended["missing"], ended["stale"], ended["failed"], ended["problems"]) == (0, 0, 0, [])
    assert ended["wanted"] == ended["stored"] == writer.written
    assert writer.failures == []
    assert standin.stats()["paid_twice"] <= 2 * EACH * THREADS * BATCH


def told(figures: list[Figures], writer: Writer, standin: StandIn) -> None:
    for each in figures:
        first = "-" if each.first_s is None else f"{each.first_s:.2f}"
        took = f"command {each.command_s:.2f} s, switch {each.switch_s:.2f} s, fence {each.fence_s * 1000:.0f} ms"
        print(f"{each.before:>8} -> {each.after:<8} {took}, first task after {first} s, freed {each.freed}")
    print(f"written {writer.written}, slowest write {writer.slowest_s:.2f} s, paid twice {standin.stats()['paid_twice']}")
