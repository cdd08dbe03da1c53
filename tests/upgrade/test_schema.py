"""The schema of 0.1.0 is what its migrations made and make; each later step locks one table, and 0.1.0 works on what they make."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
import pytest

from embedq.model import Model
from embedq.store import Store, schema, stepwise
from embedq.store.database import Database
from embedq.store.index import build_words
from tests.schema import cleaned, dumped

from .test_without_stopping import well
from .versions import Version

SQL = Path(schema.__file__).parent / "migrations" / "sql"
# Of each released migration, as it was released. A change of the schema is a new migration.
RELEASED = {
    "0001_down.sql": "aa234aada05d30561bd6f27ef4c793203ddbc79583e4a01a624da6762fea88fc",
    "0001_up.sql": "5f22cdac7392056dc46f954cbc2061c702f4d2213e208f6747ea610bf9ff83a5",
    "0002_down.sql": "7e877c730c5e3e1b6cb6161f1a0e712de30b27001e0d17b9ab3c7e97c55cf375",
    "0002_up.sql": "6c312c6d03d0f8bb1a98a58d31ddddfc07f5952e963d9e0040ecb591b6b17689",
    "0003_down.sql": "208f7e6d79543c42db2508abb0dd95cd4ec38aa5b3f0ef2a0072b40399009559",
    "0003_up.sql": "7da0e84d87dadec5c909c33158c878801a93bb54fa885f465187d85667a7fd59",
    "0004_down.sql": "fb6ad43d23b684bf466981d5af62073ae24b906e0e5fa85e5dec3d956cc752e0",
    "0004_up.sql": "18677bb68ec551a4a872d3decf5d4dc3f52876cbe3fdcc5a23bb95d0e4bf811b",
}
LATER = sorted(file.name for file in SQL.glob("*.sql") if file.name > "0005")
STRONG = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
# A partition is a part of its table.
LOCKED = """
    SELECT DISTINCT coalesce(p.relname, c.relname) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    LEFT JOIN (pg_inherits i JOIN pg_class p ON p.oid = i.inhparent) ON i.inhrelid = c.oid
    WHERE l.pid = pg_backend_pid() AND l.mode = ANY (%s) AND c.relname = ANY (%s) AND c.relkind IN ('r', 'p', 'v')
"""


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_a_released_migration_never_changes(name: str):
    assert hashlib.sha256((SQL / name).read_bytes()).hexdigest() == RELEASED[name]


def test_every_migration_of_0_1_0_is_kept_as_it_is():
    assert [file.name for file in sorted(SQL.glob("*.sql")) if file.name < "0005"] == sorted(RELEASED)


def test_our_migrations_make_the_schema_of_0_1_0(before: Version, shop: dict[str, str], bare_url: str):
    well(before, shop, "db", "upgrade")
    theirs = dumped(bare_url)
    database = Database(bare_url)

    schema.upgrade(database)
    schema.downgrade(database, "0004")

    database.close()
    assert compared(dumped(bare_url)) == compared(theirs)


def compared(dump: str) -> list[str]:
    """Its lines in any order, because a column that was made anew is the last of its table; without comments, and without how functions name
    embedq's schema, which stays as 0005 has made it."""
    lines = [line.split("--")[0].rstrip(" ,") for line in cleaned(dump).splitlines()]
    return sorted(line for line in lines if line and "SET search_path" not in line)


def test_the_words_that_0_1_0_searches_by_stay_indexed_until_ours_are(before: Version, shop: dict[str, str], bare_url: str):
    well(before, shop, "db", "upgrade")
    well(before, shop, "index", "build", "--words")
    database = Database(bare_url)
    schema.upgrade(database)
    assert indexes(database) == ["article_texts_words"]

    build_words(database)

    assert indexes(database) == ["article_texts_terms"]
    database.close()


def indexes(database: Database) -> list[str]:
    rows = database.fetch(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'article_texts' AND indexdef LIKE '%%USING gin%%'"
    )
    return [row["indexname"] for row in rows]


@pytest.mark.parametrize("way", ["up", "down"])
def test_each_step_locks_one_table(bare_url: str, way: str):
    """What it makes itself is in nobody's use."""
    database = Database(bare_url)
    schema.upgrade(database)
    Store(database).models.agree(Model("hashing", "hashing-v1", 64))
    Store(database).models.add(Model("hashing", "hashing-v1", 96, storage="halfvec"))
    if way == "up":
        schema.downgrade(database, "0004")
    database.close()
    files = [name for name in LATER if way in name]
    found = []
    with psycopg.connect(bare_url) as connection:
        there = [
            name for (name,) in connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        ]
        for name in files if way == "up" else reversed(files):
            for step in stepwise.steps_of((SQL / name).read_text(encoding="utf-8")):
                connection.execute(stepwise.ONLY_IN_STEPS.sub("", step.sql))
                locked = [name for (name,) in connection.execute(LOCKED, [list(STRONG), there])]
                found += [(name, step.place, locked)] if step.place != stepwise.BESIDE_WRITERS else []
                connection.commit()

    assert len(found) > 8
    for name, place, locked in found:
        assert len(locked) <= 1, f"{name}: {locked}"
        assert not place or locked in ([place], []), f"{name}: {place} is named, {locked} is locked"
