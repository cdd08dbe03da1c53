"""A thousand articles written at once by HTTP to one process: with provider and broker well, and with both dead."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from tests.acceptance.service import AUTH, serving
from tests.support import ROOT, env, free_port

from .figures import Figure, alone, compared, percentile
from .world import World, Yard

WRITES, BURSTS = 1_000, 4
NOISE = 1.25


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Each round: a fresh service of each kind, and some bursts. "well" has no workers: they would share the service's cores, and be what is
    measured; how it is with them is told beside it. A burst whose writes did not all succeed ends the benchmark."""
    writes, bursts, rounds = (200, 2, 1) if quick else (WRITES, BURSTS, 3)
    first: dict[str, list[float]] = {}
    p50: dict[str, list[float]] = {}
    p99: dict[str, list[float]] = {}
    for number in range(rounds):
        kinds = ["well", "dead", "embedding"]
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            with _yard(world, kind) as yard:
                cold, *warm = _bursts(yard, writes, bursts)
                first.setdefault(kind, []).append(percentile(cold, 0.99))
                p50.setdefault(kind, []).append(median(percentile(each, 0.5) for each in warm))
                p99.setdefault(kind, []).append(median(percentile(each, 0.99) for each in warm))
    for name, found in (("p50", p50), ("p99", p99)):
        yield alone(f"{name}, provider and broker well", "s", found["well"])
        yield compared(f"{name}, both dead", "s", found["dead"], found["well"], "both well", at_most=NOISE)
        yield compared(f"{name}, workers embedding on the same cores", "s", found["embedding"], found["well"], "both well")
    yield compared(
        "p99 of a fresh service's first burst, both dead", "s", first["dead"], first["well"], "both well", at_most=NOISE
    )


@contextmanager
def _yard(world: World, kind: str) -> Iterator[Yard]:
    with world.yard(mode="celery") as yard:
        if kind == "dead":
            yard.environment |= {
                "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
                "OPENAI_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
            }
        if kind == "embedding":
            yard.start_workers()
        yield yard


def _bursts(yard: Yard, writes: int, bursts: int) -> list[list[float]]:
    """Seconds of every write of each burst, from before its connection to the end of its answer."""
    with serving(yard.environment) as served:
        argv = [sys.executable, "-m", "tests.bench.burst", served.url, AUTH, str(writes), str(bursts)]
        done = subprocess.run(argv, env=env({}), cwd=ROOT, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["statuses"] for each in found] == [{"201": writes}] * bursts, done.stdout[:2000]
    assert yard.number("SELECT count(*) FROM article_texts") == writes * bursts
    assert yard.number("SELECT count(DISTINCT article_id) FROM embedding_tasks") == writes * bursts
    return [each["seconds"] for each in found]
