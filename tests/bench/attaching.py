"""A table attached while it is written: how long its writers wait, and whether workers are as busy as with articles."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from embedq.model import SourceDraft
from embedq.operations import sources
from tests.support import until

from .figures import Figure, alone, compared, percentile
from .world import World, Yard

WRITES_A_SECOND, WRITERS = 200, 4
LIMIT_MS = 200.0
PROVIDER_MS = 50.0
BATCH, LOOK_S = 100, 0.25

INSERT = {
    "posts": "INSERT INTO posts VALUES (%s, 'A new post', 'of some words')",
    "articles": "INSERT INTO articles (id, title, content) VALUES (%s, 'A new post', 'of some words')",
}
UPDATE = {
    "posts": "UPDATE posts SET title = title || '!' WHERE id = %s",
    "articles": "UPDATE articles SET title = title || '!' WHERE id = 'a' || %s",
}


class Writer:
    """One of several connections that insert and update rows of `table` at a fixed rate; keeps how long each write took."""

    def __init__(self, url: str, table: str, number: int, stop: threading.Event) -> None:
        self.took_ms: list[float] = []
        self._url, self._table, self._number, self._stop = url, table, number, stop
        self.thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        pause_s = WRITERS / WRITES_A_SECOND
        due = time.monotonic()
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due += pause_s
                start = time.perf_counter()
                self._one(connection, len(self.took_ms))
                self.took_ms.append(1000 * (time.perf_counter() - start))

    def _one(self, connection: psycopg.Connection[Any], count: int) -> None:
        if count % 2:
            connection.execute(UPDATE[self._table], (1 + (31 * count + 2_500 * self._number) % 10_000,))
        else:  # none of the first rows has such an id
            connection.execute(INSERT[self._table], (-(WRITERS * count + self._number + 1),))


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """The same rows, writers and workers twice: first as articles, then in a table that is attached."""
    rows, window_s = (100_000, 20.0) if quick else (1_000_000, 60.0)
    rates: list[tuple[float, float]] = []
    waits: list[list[float]] = []
    for with_articles in (True, False):
        with world.yard(mode="database") as yard, _written(yard, rows, "articles" if with_articles else "posts") as writers:
            world.standin.control(latency_ms=PROVIDER_MS)
            yard.start_workers(4)
            begin = [len(one.took_ms) for one in writers]
            _give_work(yard, rows, with_articles=with_articles)
            rates.append(_rate(yard, window_s))
            waits.append([took for one, first in zip(writers, begin, strict=True) for took in one.took_ms[first:]])
    yield from _figures(rates, waits, rows)


@contextmanager
def _written(yard: Yard, rows: int, table: str) -> Iterator[list[Writer]]:
    yard.sql("CREATE TABLE posts (id int PRIMARY KEY, title text, body text)")
    yard.sql(
        "INSERT INTO posts SELECT n, 'Post ' || n, repeat('some short text ', 4) || n FROM generate_series(1, %s::int) n", rows
    )
    yard.sql("VACUUM ANALYZE posts")
    stop = threading.Event()
    writers = [Writer(yard.url, table, number, stop) for number in range(WRITERS)]
    for one in writers:
        one.thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for one in writers:
            one.thread.join()


def _give_work(yard: Yard, rows: int, *, with_articles: bool) -> None:
    if with_articles:
        yard.add_articles(rows, priority="low")
        return
    with yard.store() as store:
        sources.attach(store, SourceDraft("posts", title="title", content="body"), "bench", "B13")


def _rate(yard: Yard, window_s: float) -> tuple[float, float]:
    """Articles embedded per second, from the first on; and the percentage of looks at which no batch waited for the workers."""
    until(lambda: yard.number("SELECT count(*) FROM (SELECT FROM embeddings LIMIT 500) few") == 500, 60, yard.said)
    start, before = time.perf_counter(), yard.number("SELECT count(*) FROM embeddings")
    looks: list[bool] = []
    while time.perf_counter() - start < window_s:
        waiting = yard.number("SELECT count(*) FROM (SELECT FROM embedding_tasks WHERE status = 'pending' LIMIT 100) few")
        looks.append(waiting < BATCH)
        time.sleep(LOOK_S)
    rate = (yard.number("SELECT count(*) FROM embeddings") - before) / (time.perf_counter() - start)
    return rate, 100 * sum(looks) / len(looks)


def _figures(rates: list[tuple[float, float]], waits: list[list[float]], rows: int) -> Iterator[Figure]:
    beside, attached = waits
    yield alone(
        f"longest write to a table of {rows:,} rows while it is attached, {WRITES_A_SECOND} a second",
        "ms",
        [max(attached)],
        at_most=LIMIT_MS,
    )
    yield compared("the longest write, against", "ms", [max(attached)], [max(beside)], "writes of articles")
    yield compared(
        "99 % of writes take at most", "ms", [percentile(attached, 0.99)], [percentile(beside, 0.99)], "writes of articles"
    )
    (of_articles, _), (of_rows, without_work) = rates
    yield alone("looks at which workers had no full batch before them while rows were taken in", "%", [without_work], at_most=5)
    yield compared("rows embedded while they are taken in", "/s", [of_rows], [of_articles], "articles", at_least=0.9)
