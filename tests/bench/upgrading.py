"""An upgrade of the schema from 0.1.0 and back, on large tables, beside short statements: the longest that one of them takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import psycopg

from embedq.store import schema
from embedq.store.database import Database

from . import filling
from .figures import Figure, alone
from .world import World, Yard, seconds

BEFORE = "0004"
DIMENSIONS = 8
AT_MOST_MS = 100.0
FILL = "UPDATE article_texts SET content = repeat(md5(id) || ' ', 40)"
STATEMENTS = {
    "insert": "INSERT INTO articles (id, title, content) VALUES (gen_random_uuid()::text, 'one', 'statement ' || %(n)s)",
    "update": "UPDATE articles SET title = title || '.' WHERE id = 'a' || %(n)s",
    "read": "SELECT title, embedding_status FROM articles WHERE id = 'a' || %(n)s",
    "tasks": "UPDATE embedding_tasks SET scheduled_at = scheduled_at WHERE id = %(n)s",
    "vectors": "SELECT embedding FROM embedding_vectors WHERE article_id = 'a' || %(n)s",
}


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """The longest of the statements while nothing else is done, while the schema goes up, and while it goes back, three times each."""
    rows, rounds = (30_000, 1) if quick else (1_000_000, 3)
    longest: dict[str, list[float]] = {"nothing": [], "upgrade": [], "downgrade": []}
    with world.yard(dimensions=DIMENSIONS) as yard:
        database = Database(yard.url)
        schema.downgrade(database, BEFORE)
        _fill(yard, rows)
        for _ in range(rounds):
            longest["nothing"].append(_longest_ms(yard, lambda: time.sleep(3.0)))
            longest["upgrade"].append(_longest_ms(yard, lambda: schema.upgrade(database)))
            longest["downgrade"].append(_longest_ms(yard, lambda: schema.downgrade(database, BEFORE)))
        database.close()
    for what, found in longest.items():
        yield alone(
            f"longest short statement beside {what}, {rows:,} articles",
            "ms",
            found,
            at_most=None if what == "nothing" else AT_MOST_MS,
        )


def _fill(yard: Yard, rows: int) -> None:
    filling.articles(yard, 1, rows)
    yard.sql("ALTER TABLE article_texts DISABLE TRIGGER USER")
    yard.sql(FILL)
    yard.sql("ALTER TABLE article_texts ENABLE TRIGGER USER")
    filling.embedded(yard, 1, rows)
    yard.sql("VACUUM ANALYZE")


def _longest_ms(yard: Yard, act: Callable[[], object]) -> float:
    with beside(yard.url) as took:
        time.sleep(0.5)
        act_s = seconds(act)
        time.sleep(0.5)
    worst = {name: round(1000 * max(times), 1) for name, times in took.items()}
    print(f"    {act_s:.2f} s; longest, in ms: {worst}", flush=True)
    return max(worst.values())


@contextmanager
def beside(url: str) -> Iterator[dict[str, list[float]]]:
    """Each statement again and again on a connection of its own; how long each took, in seconds."""
    ending = threading.Event()
    took: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    threads = [threading.Thread(target=_again, args=(url, ending, STATEMENTS[name], took[name])) for name in STATEMENTS]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def _again(url: str, ending: threading.Event, statement: str, took: list[float]) -> None:
    connection: psycopg.Connection[Any]
    dice = Random(statement)
    with psycopg.connect(url, autocommit=True) as connection:
        while not ending.wait(0.005):
            took.append(_once(connection, statement, dice.randint(1, 9_000)))


def _once(connection: psycopg.Connection[Any], statement: str, row: int) -> float:
    return seconds(lambda: connection.execute(statement, {"n": row}))  # type: ignore[call-overload]
