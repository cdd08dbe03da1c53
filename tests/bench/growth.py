"""Claim and settle as the table grows, and while somebody holds a snapshot open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

import numpy as np
import psycopg

from embedq.model import Claimed, Delivery, Outcome, Priority, Stored, TaskStatus
from embedq.store import Store

from . import filling
from .figures import Figure
from .world import World, Yard, seconds

BATCH, DIMENSIONS = 100, 8
LEASE_S = 3600.0
TIMES_SMALL, TIMES_SNAPSHOT = 1.3, 3.0
VECTOR = [np.ones(DIMENSIONS, dtype=np.float32)]


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Mostly completed and mostly pending, all sizes batch by batch in turn; then a minute under an open snapshot."""
    sizes = (10_000, 50_000) if quick else (10_000, 100_000, 1_000_000, 3_000_000)
    batches = 15 if quick else 40
    for kind in ("completed", "pending"):
        timed = _in_turn(world, kind, sizes, batches)
        for size in sizes:
            name = f"claim and settle {BATCH} of {size:,} rows, mostly {kind}"
            yield _figure(name, timed[size], timed[sizes[0]], "at 10,000 rows", TIMES_SMALL)
    yield _under_a_snapshot(world, held_s=5 if quick else 60)


def _in_turn(world: World, kind: str, sizes: Sequence[int], batches: int) -> dict[int, list[float]]:
    """Milliseconds a batch, by size. The first five of each warm the cache."""
    with ExitStack() as open_yards:
        claimers = {}
        for size in sizes:
            yard = open_yards.enter_context(world.yard(dimensions=DIMENSIONS))
            _fill(yard, size, kind, batches * BATCH)
            claimers[size] = open_yards.enter_context(_claimer(yard))
        rounds = [{size: claimers[size].batch_ms() for size in sizes} for _ in range(batches)]
    return {size: [each[size] for each in rounds[5:]] for size in sizes}


def _fill(yard: Yard, size: int, kind: str, claimed: int) -> None:
    """The tasks that will be claimed have articles; the others need none for what is measured here."""
    waits = size if kind == "pending" else min(size // 2, 2 * claimed)
    filling.articles(yard, 1, min(waits, 2 * claimed))
    filling.waiting(yard, 1, waits)
    filling.finished(yard, waits + 1, max(size, waits + 1))
    yard.sql("ANALYZE embedding_tasks")
    yard.sql("VACUUM embedding_tasks")


class Claimer:
    """A worker without a provider: it claims, and settles with a made-up vector."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.id = store.workers.register("poller", "benchmark", [], LEASE_S)

    def batch_ms(self) -> float:
        return 1000 * seconds(self.batch)

    def batch(self) -> None:
        claimed = self.store.tasks.claim_due(self.id, Delivery.POLLER, tuple(Priority), BATCH)
        assert len(claimed) == BATCH, f"{len(claimed)} were claimed"
        settled = self.store.tasks.settle(self.id, "benchmark", [_done(task) for task in claimed])
        assert set(settled.states.values()) == {"completed"}, settled


def _done(task: Claimed) -> Outcome:
    stored = Stored(VECTOR, (0,), (10,), (b"digest of the chunk",), 8)
    return Outcome(task, TaskStatus.COMPLETED, charged=True, stored=stored)


@contextmanager
def _claimer(yard: Yard) -> Iterator[Claimer]:
    with yard.store(of_a_worker=True) as store:
        yield Claimer(store)


def _under_a_snapshot(world: World, held_s: float) -> Figure:
    """The last fifth of the time under it, against the same worker just before."""
    tasks = int(20_000 + held_s * 20_000)
    with world.yard(dimensions=DIMENSIONS) as yard, _claimer(yard) as claimer:
        filling.articles(yard, 1, tasks)
        filling.waiting(yard, 1, tasks)
        yard.sql("ANALYZE embedding_tasks")
        before = [claimer.batch_ms() for _ in range(100)]
        with psycopg.connect(yard.url) as other:
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM embedding_worker_status")
            under = _for_s(claimer, held_s)
    name = f"claim and settle {BATCH} under a snapshot held {held_s:g} s"
    return _figure(name, under[-max(1, len(under) // 5) :], before, "without it", TIMES_SNAPSHOT)


def _for_s(claimer: Claimer, limit_s: float) -> list[float]:
    found: list[float] = []
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        found.append(claimer.batch_ms())
    return found


def _figure(name: str, ours: list[float], other: list[float], against: str, at_most: float) -> Figure:
    ratio = median(ours) / median(other)
    raw = {"ours": ours, "other": other}
    return Figure(name, median(ours), "ms", against, median(other), ratio, f"<= {at_most:g} x", ratio <= at_most, raw)
