"""Writing articles: what the task that is born with each of them costs the writer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from statistics import median

import psycopg
import redis

from embedq import Client

from .figures import Figure, compared
from .world import World, Yard, seconds, side_by_side

INSERT = (
    "INSERT INTO article_texts (id, title, content) SELECT %s || n, 'Article ' || n, repeat('some short text ', 12) || n"
    " FROM generate_series(1, %s::int) n"
)


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """In bulk, against the same table with its triggers off; one by one through the API, against a bare INSERT plus LPUSH."""
    with world.yard() as yard:
        yield _bulk(yard, articles=10_000 if quick else 100_000, rounds=3 if quick else 5)
    with world.yard(mode="celery") as yard:
        yield _single(yard, articles=100 if quick else 500, rounds=3 if quick else 7)


def _bulk(yard: Yard, articles: int, rounds: int) -> Figure:
    def insert(triggers: str) -> float:
        yard.sql("TRUNCATE embedding_tasks, article_texts")
        yard.sql(f"ALTER TABLE article_texts {triggers} TRIGGER USER")
        took = seconds(lambda: yard.sql(INSERT, uuid.uuid4().hex, articles))
        yard.sql("ALTER TABLE article_texts ENABLE TRIGGER USER")
        return took

    timed = side_by_side(rounds, {"with": lambda: insert("ENABLE"), "without": lambda: insert("DISABLE")})
    name = f"INSERT … SELECT of {articles:,} articles"
    return compared(name, "s", timed["with"], timed["without"], "the same without the triggers", at_most=2)


def _single(yard: Yard, articles: int, rounds: int) -> Figure:
    broker = redis.Redis.from_url(yard.redis_url)
    with Client(yard.settings) as client, psycopg.connect(yard.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE plain_articles (LIKE article_texts INCLUDING ALL)")

        def through_the_api() -> None:
            client.create("An article", "some short text " * 12)

        def by_hand() -> None:
            key = uuid.uuid4().hex
            connection.execute(
                "INSERT INTO plain_articles (id, title, content) VALUES (%s, %s, %s)",
                (key, "An article", "some short text " * 12),
            )
            broker.lpush("plain", key)

        timed = side_by_side(
            rounds, {"api": lambda: _each(through_the_api, articles), "plain": lambda: _each(by_hand, articles)}
        )
    return compared("one article through the API", "ms", timed["api"], timed["plain"], "INSERT plus LPUSH", at_most=1.5)


def _each(write: Callable[[], None], times: int) -> float:
    """Milliseconds of the median one."""
    return 1000 * median(seconds(write) for _ in range(times))
