"""Up, down and up again: nothing of embedq's is left behind, and nothing of anybody else's is touched."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from embedq.errors import StoreUnavailable
from embedq.model import Model
from embedq.store import Store, schema
from embedq.store.database import Database

_numbers = itertools.count(1)
OURS = """
    SELECT 'table ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE 'embedq%'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'type ' || typname FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r') ORDER BY 1
"""


@pytest.fixture
def empty(servers):
    """The URL of a database with nothing in it, dropped afterwards."""
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield servers.database_url.rsplit("/", 1)[0] + "/" + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(empty):
    opened = Database(empty)
    yield opened
    opened.close()


@pytest.fixture
def left(database):
    return lambda: [next(iter(row.values())) for row in database.fetch(OURS)]


def write_two_articles(database):
    Store(database).models.agree(Model("hashing", "hashing-v1", 64))
    database.execute(
        "INSERT INTO articles (id, title, content, slug) VALUES ('a', 'Tea', 'one', 'tea'), ('b', 'Coffee', 'two', NULL)"
    )
    database.execute("UPDATE articles SET content = 'three' WHERE id = 'b'")


def test_nothing_of_ours_is_left_at_base(database, left):
    schema.upgrade(database)
    write_two_articles(database)
    assert schema.missing(database) == []

    before, after = schema.downgrade(database)

    assert (before, after) == (schema.LATEST, None)
    assert left() == []


def test_the_articles_stay_when_they_are_to_be_kept(database, left):
    schema.upgrade(database)
    write_two_articles(database)

    schema.downgrade(database, keep_articles=True)

    assert left() == ["table articles"]
    assert database.fetch("SELECT id, title, content, slug FROM articles ORDER BY id") == [
        {"id": "a", "title": "Tea", "content": "one", "slug": "tea"},
        {"id": "b", "title": "Coffee", "content": "three", "slug": None},
    ]


def test_kept_articles_are_taken_in_again_and_get_their_tasks(database):
    schema.upgrade(database)
    write_two_articles(database)
    schema.downgrade(database, keep_articles=True)

    schema.upgrade(database)
    Store(database).models.agree(Model("hashing", "hashing-v1", 64))
    made = Store(database).care.reconcile()["made"]

    assert schema.missing(database) == []
    assert made == 2
    assert database.fetch("SELECT id, content, embedding_status FROM articles ORDER BY id") == [
        {"id": "a", "content": "one", "embedding_status": "queued"},
        {"id": "b", "content": "three", "embedding_status": "queued"},
    ]


def test_it_goes_up_and_down_more_than_once(database, left):
    for keep in (True, True, False):
        schema.upgrade(database)
        schema.downgrade(database, keep_articles=keep)

    assert left() == []


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(database):
    schema.upgrade(database)
    write_two_articles(database)

    assert schema.upgrade(database) == (schema.LATEST, schema.LATEST)

    assert database.fetch("SELECT count(*) AS n FROM articles") == [{"n": 2}]


@pytest.mark.parametrize("foreign", ["CREATE TABLE articles (id serial, body text)", "CREATE VIEW articles AS SELECT 1 AS one"])
def test_somebody_elses_articles_are_refused_and_left_as_they_were(database, left, foreign):
    database.execute(foreign)
    before = left()

    with pytest.raises(StoreUnavailable, match="not embedq's") as refused:
        schema.upgrade(database)

    assert "search_path" in refused.value.hint
    assert [name for name in left() if "embedq_schema_version" not in name] == before


def test_a_schema_of_its_own_lives_beside_somebody_elses_articles(database, empty, left):
    database.execute("CREATE TABLE articles (id serial, body text)")
    database.execute("CREATE EXTENSION vector; CREATE SCHEMA embedq")
    before = left()
    own = Database(f"{empty}?options=-csearch_path%3Dembedq,public")

    schema.upgrade(own)
    own.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    schema.downgrade(own)

    assert left() == before
    own.close()
