"""An attached table: what its writers pay, and what disk it takes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from .figures import Figure, compared
from .world import World, Yard, seconds, side_by_side
from .writing import _each

COLUMNS = "(id text PRIMARY KEY, title text, body text, views int DEFAULT 0)"
# English of 2,000 bytes, no two rows alike: what a text of this length compresses to.
TEXT = "(SELECT string_agg(md5((n * 61 + word)::text) || ' and then some words of plain text', ' ') FROM generate_series(1, 30) word WHERE n IS NOT NULL)"


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """In bulk and one by one, against the same table without embedq; an update of a column that is not embedded; the copy of the texts."""
    with world.yard() as yard:
        for table in ("attached", "plain"):
            yard.sql(f"CREATE TABLE {table} {COLUMNS}")
        yard.sql("SELECT embedq_attach('attached', title => 'title', content => 'body')")
        rows, rounds = (5_000, 3) if quick else (50_000, 5)
        yield _bulk(yard, rows, rounds)
        yield from _updates(yard, rows, rounds)
        yield from _singles(yard, 200 if quick else 1000, rounds)
        yield _disk(yard, rows)


def _bulk(yard: Yard, rows: int, rounds: int) -> Figure:
    def insert(table: str) -> float:
        yard.sql(f"TRUNCATE {table}")
        yard.sql("TRUNCATE article_texts, embedding_tasks, article_versions")
        return seconds(
            lambda: yard.sql(
                f"INSERT INTO {table} SELECT %s || n, 'Title ' || n, {TEXT} FROM generate_series(1, %s::int) n",
                uuid.uuid4().hex,
                rows,
            )
        )

    timed = side_by_side(rounds, {"attached": lambda: insert("attached"), "plain": lambda: insert("plain")})
    return compared(f"INSERT … SELECT of {rows:,} rows", "s", timed["attached"], timed["plain"], "without embedq", at_most=2)


def _updates(yard: Yard, rows: int, rounds: int) -> Iterator[Figure]:
    for table in ("attached", "plain"):
        yard.sql(f"TRUNCATE {table}")
        yard.sql(f"INSERT INTO {table} SELECT n, 'Title ' || n, {TEXT} FROM generate_series(1, %s::int) n", rows)
        yard.sql(f"VACUUM ANALYZE {table}")

    def update(table: str) -> float:
        took = seconds(lambda: yard.sql(f"UPDATE {table} SET views = views + 1"))
        yard.sql(f"VACUUM {table}")
        return took

    timed = side_by_side(rounds, {"attached": lambda: update("attached"), "plain": lambda: update("plain")})
    name = f"UPDATE of {rows:,} rows, of a column that is not embedded"
    yield compared(name, "s", timed["attached"], timed["plain"], "without embedq", at_most=1.05)


def _singles(yard: Yard, times: int, rounds: int) -> Iterator[Figure]:
    def insert(table: str) -> float:
        return _each(
            lambda: yard.sql(f"INSERT INTO {table} VALUES (%s, 'A title', %s)", uuid.uuid4().hex, "some short text " * 12),
            times,
        )

    def update(table: str) -> float:
        return _each(lambda: yard.sql(f"UPDATE {table} SET views = views + 1 WHERE id = '7'"), times)

    for name, write, most in (("one row", insert, 1.4), ("one UPDATE of a column that is not embedded", update, 1.05)):
        timed = side_by_side(rounds, {table: lambda write=write, table=table: write(table) for table in ("attached", "plain")})  # type: ignore[misc]
        yield compared(name, "ms", timed["attached"], timed["plain"], "without embedq", at_most=most)


def _disk(yard: Yard, rows: int) -> Figure:
    """Of all that is kept for the rows before they are embedded, without their tasks, which end."""
    yard.sql("TRUNCATE attached")
    yard.sql("TRUNCATE article_texts, embedding_tasks, article_versions")
    yard.sql(f"INSERT INTO attached SELECT n, 'Title ' || n, {TEXT} FROM generate_series(1, %s::int) n", rows)
    kept = yard.number("SELECT pg_total_relation_size('article_texts')") / 2**20
    texts = yard.number("SELECT sum(octet_length(title) + octet_length(body)) FROM attached") / 2**20
    return compared(f"disk for {rows:,} rows without their vectors", "MB", [kept], [texts], "their texts", at_most=1.2)
