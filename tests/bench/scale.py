"""More workers at a slow provider: one second a request, workers of one thread each."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from .figures import Figure
from .world import World, Yard

BATCH = 50
LINEAR = 0.9
# Of what was completed, the middle eight tenths: at the end some workers have no request left while others still wait for theirs.
STEADY = """
    WITH done AS (SELECT completed_at AS at, ntile(10) OVER (ORDER BY completed_at) AS tenth FROM embedding_tasks WHERE article_id LIKE 'a%%'),
    middle AS (SELECT min(at) FILTER (WHERE tenth = 2) AS first, max(at) FILTER (WHERE tenth = 9) AS last FROM done)
    SELECT count(*) FILTER (WHERE at > first) / extract(epoch FROM max(last) - max(first)) FROM done, middle WHERE at <= last
"""
MODES = {"database": "pollers", "celery": "Celery workers"}


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Each worker gets the same number of requests."""
    counts, requests = ((1, 2), 3) if quick else ((1, 2, 4, 8), 15)
    for mode in MODES:
        one: float = 0.0
        for workers in counts:
            rates = [_rate(world, mode, workers, requests) for _ in range(1 if quick else 2)]
            one = one or median(rates)
            share = median(rates) / (workers * one)
            name = f"{workers} {MODES[mode]}"
            yield Figure(
                name,
                median(rates),
                "articles/s",
                f"{workers} times one worker",
                workers * one,
                share,
                f">= {LINEAR:g} x",
                share >= LINEAR,
                {"ours": rates},
            )


def _rate(world: World, mode: str, workers: int, requests: int) -> float:
    with world.yard(mode=mode, batch=BATCH) as yard:
        _start(yard, workers)
        world.standin.control(latency_ms=1000.0)
        yard.add_articles(workers * requests * BATCH)
        yard.until_embedded()
        return yard.number(STEADY)


def _start(yard: Yard, workers: int) -> None:
    for _ in range(workers):
        yard.start_workers(1)
    yard.add_articles(workers, prefix="warm")
    yard.until_embedded()
