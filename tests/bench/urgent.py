"""An urgent article behind a hundred thousand low ones: from its commit to its vector, less the provider's own time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from embedq import Client

from . import filling
from .figures import Figure, percentile
from .world import World, Yard

PROVIDER_MS, PER_INPUT_MS = 50.0, 0.1
MODES = ("database", "celery", "hybrid")
LIMIT_MS, TIMES_IDLE = 150.0, 2.0
PAUSE_S = 0.1


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """First with idle workers, then with busy ones; written through the API, as an application would. Four threads, once all alike, and once
    with one of them reserved for `urgent` and `high`, as the compose file has it."""
    samples, backlog = (15, 10_000) if quick else (200, 100_000)
    for mode in MODES:
        for reserved in (False, True):
            if reserved and mode == "hybrid":
                continue
            with world.yard(mode=mode) as yard, Client(yard.settings) as client:
                world.standin.control(latency_ms=PROVIDER_MS, latency_per_input_ms=PER_INPUT_MS)
                yard.start_workers(3 if reserved else 4)
                if reserved:
                    yard.start_workers(1, queues=("urgent", "high"))
                _latencies_ms(yard, client, 5)
                idle = _latencies_ms(yard, client, samples)
                busy = _behind(yard, client, samples, backlog)
            yield from _figures(f"{mode} mode" + ", one thread reserved" * reserved, idle, busy)


def _behind(yard: Yard, client: Client, samples: int, backlog: int) -> list[float]:
    """Refilled between blocks of samples, so that the backlog is never small and its making disturbs no sample."""
    found: list[float] = []
    made = 0
    while len(found) < samples:
        missing = backlog - yard.open_tasks()
        if missing > backlog // 2:
            filling.articles(yard, made + 1, made + missing)
            filling.waiting(yard, made + 1, made + missing, priority="low")
            made += missing
            time.sleep(1.0)
        found += _latencies_ms(yard, client, min(10, samples - len(found)))
    return found


def _latencies_ms(yard: Yard, client: Client, times: int) -> list[float]:
    return [_latency_ms(yard, client) for _ in range(times)]


def _latency_ms(yard: Yard, client: Client) -> float:
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    article = client.create("Urgent", f"what somebody waits for {start}", priority="urgent")
    while not yard.sql("SELECT 1 FROM embeddings WHERE article_id = %s", article.id):
        time.sleep(0.002)
        if time.perf_counter() - start > 30:
            raise AssertionError(f"an urgent article was not embedded within 30 s: {yard.said()}")
    return (time.perf_counter() - start) * 1000 - PROVIDER_MS - PER_INPUT_MS


def _figures(name: str, idle: list[float], busy: list[float]) -> Iterator[Figure]:
    raw = {"ours": busy, "other": idle}
    p99, p50 = percentile(busy, 0.99), median(busy)
    yield Figure(f"{name}, p99", p99, "ms", target=f"<= {LIMIT_MS:g} ms", met=p99 <= LIMIT_MS, raw=raw)
    ratio = p50 / median(idle)
    yield Figure(f"{name}, p50", p50, "ms", "an idle system", median(idle), ratio, f"<= {TIMES_IDLE:g} x", ratio <= TIMES_IDLE)
