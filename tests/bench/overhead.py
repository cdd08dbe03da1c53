"""The queue alone: a provider that answers at once with tiny vectors, against Celery tasks that do nothing."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from tests.support import until

from .embedding import celery_rival
from .figures import Figure, compared
from .rivals import app
from .world import World, seconds

BATCH, THREADS = 500, 4
MODES = ("database", "celery", "hybrid")


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """From the commit of the articles to the last settle; of the Celery tasks, from the first to the last that ran."""
    tasks, rounds = (5_000, 1) if quick else (100_000, 3)
    rates: dict[str, list[float]] = {name: [] for name in (*MODES, "celery alone")}
    for number in range(rounds):
        for name in list(rates) if number % 2 == 0 else reversed(list(rates)):
            rates[name].append(_ours(world, name, tasks) if name in MODES else _nothing(world, tasks // 5))
    for mode in MODES:
        yield compared(f"{mode} mode", "tasks/s", rates[mode], rates["celery alone"], "no-op tasks on Celery", at_least=10)


def _ours(world: World, mode: str, tasks: int) -> float:
    with world.yard(mode=mode, dimensions=8, batch=BATCH) as yard:
        yard.start_workers(THREADS)
        yard.add_articles(THREADS, prefix="warm")
        yard.until_embedded()
        yard.add_articles(tasks)
        took = seconds(yard.until_embedded)
        assert yard.number("SELECT count(*) FROM embeddings") == tasks + THREADS
        return tasks / took


def _nothing(world: World, tasks: int) -> float:
    with world.yard(mode="off") as yard:
        app.conf.broker_url = yard.redis_url
        broker = redis.Redis.from_url(yard.redis_url)
        with app.connection_for_write(url=yard.redis_url) as connection, app.amqp.Producer(connection) as producer:
            for number in range(tasks):
                mark = ["marks"] if number in (0, tasks - 1) else []
                app.send_task("rivals.nothing", args=mark, producer=producer)
        with celery_rival(yard, THREADS):
            until(lambda: broker.llen("marks") == 2, 120, "the no-op tasks do not finish")
        first, last = (float(mark) for mark in broker.lrange("marks", 0, -1))
        return (tasks - 1) / (last - first)
