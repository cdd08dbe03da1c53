"""Up, down and up again: nothing of embedq's is left behind, and nothing of anybody else's is touched."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from embedq.errors import NotWell, StoreUnavailable
from embedq.model import Model
from embedq.store import Store, schema, steps, stepwise
from embedq.store.database import Database
from tests.schema import FILE, as_made

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
def test_somebody_elses_articles_are_refused_and_left_as_they_were(database, empty, left, foreign):
    """Where the address says that embedq is to be there."""
    database.execute(foreign)
    before = left()
    there = Database(f"{empty}?options=-csearch_path%3Dpublic")

    with pytest.raises(StoreUnavailable, match="not embedq's") as refused:
        schema.upgrade(there)

    there.close()

    assert "search_path" in refused.value.hint
    assert [name for name in left() if "embedq_schema_version" not in name] == before


def test_a_schema_of_its_own_lives_beside_somebody_elses_articles(database, empty, left):
    database.execute("CREATE TABLE articles (id serial, body text)")
    database.execute("CREATE EXTENSION IF NOT EXISTS vector; CREATE SCHEMA embedq")
    before = left()
    own = Database(f"{empty}?options=-csearch_path%3Dembedq,public")

    schema.upgrade(own)
    own.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    schema.downgrade(own)

    assert left() == before
    own.close()


@pytest.fixture
def in_use(database, empty):
    """A session with an open transaction that has written an article."""
    schema.upgrade(database)
    write_two_articles(database)
    with psycopg.connect(empty, application_name="the application") as writing:
        writing.execute("UPDATE articles SET content = 'four' WHERE id = 'a'")
        yield writing


def go_back_to(revision, database, in_use):
    """The writer looks at tables that the later steps lock first; with it in between, none of them would be done."""
    in_use.rollback()
    schema.downgrade(database, revision)
    in_use.execute("UPDATE articles SET content = 'four' WHERE id = 'a'")


def saves_until_done(changing, url):
    """Of another article, in a session of its own."""
    saves = 0
    with psycopg.connect(url, autocommit=True) as other:
        while not changing.done():
            other.execute("UPDATE articles SET metadata = '{}' WHERE id = 'b'")
            saves += 1
    return saves


def test_what_removes_embedq_says_who_is_in_the_way_and_holds_nobody_up(database, empty, in_use, monkeypatch, in_thread):
    monkeypatch.setattr(schema, "PATIENCE_S", 1.5)
    changing = in_thread(schema.downgrade, database)

    assert saves_until_done(changing, empty) > 3

    with pytest.raises(NotWell, match="the application"):
        changing.result()
    assert schema.current(database) == schema.LATEST
    assert schema.missing(database) == []


def test_a_change_of_the_schema_stops_at_a_writer_says_who_it_is_and_goes_on_there(
    database, empty, in_use, monkeypatch, in_thread
):
    monkeypatch.setattr(schema, "PATIENCE_S", 1.5)
    monkeypatch.setattr(stepwise, "PATIENCE_S", 1.5)
    before = as_made(empty)
    go_back_to("0008", database, in_use)
    changing = in_thread(schema.downgrade, database, "0004")

    assert saves_until_done(changing, empty) > 3

    with pytest.raises(NotWell, match="the application"):
        changing.result()
    with pytest.raises(NotWell, match="interrupted after") as refused:
        schema.upgrade(database)
    assert "embedq db downgrade" in refused.value.hint
    in_use.commit()
    assert schema.downgrade(database, "0004")[1] == "0004"
    assert schema.upgrade(database) == ("0004", schema.LATEST)
    assert as_made(empty) == before


def test_an_upgrade_that_was_interrupted_does_no_step_twice(database, empty, monkeypatch):
    """The step before the one that meets the reader adds columns."""
    schema.upgrade(database, "0004")
    monkeypatch.setattr(schema, "PATIENCE_S", 0.3)
    monkeypatch.setattr(stepwise, "PATIENCE_S", 0.3)
    with psycopg.connect(empty) as reading:
        reading.execute("SELECT count(*) FROM embedding_workers")
        with pytest.raises(NotWell):
            schema.upgrade(database)
    with database.transaction() as connection:
        assert stepwise.half_done(connection) == ("0005", "up", 4)

    assert schema.upgrade(database) == ("0004", schema.LATEST)
    assert as_made(empty) == FILE.read_text(encoding="utf-8")


def test_what_is_half_done_can_be_removed(database, empty, in_use, monkeypatch, left):
    go_back_to("0008", database, in_use)
    monkeypatch.setattr(schema, "PATIENCE_S", 0.3)
    monkeypatch.setattr(stepwise, "PATIENCE_S", 0.3)
    with pytest.raises(NotWell, match="the application"):
        schema.downgrade(database, "0004")
    with database.transaction() as connection:
        assert stepwise.half_done(connection)
    in_use.commit()

    schema.downgrade(database)

    assert left() == []


def test_a_step_that_fails_is_tried_again_and_then_done_once(database, empty, in_use, monkeypatch):
    """The writer ends after the third try of a step. Were a step that is done executed again, its column would be there twice."""
    tries = []
    once = stepwise._once

    def counted(connection, step, note):
        tries.append((note, step.sql))
        in_use.commit() if len(tries) - len(set(tries)) == 2 else None
        return once(connection, step, note)

    monkeypatch.setattr(stepwise, "_once", counted)

    schema.downgrade(database, "0004")

    assert len(tries) - len(set(tries)) >= 2
    assert schema.upgrade(database) == ("0004", schema.LATEST)


def test_a_schema_of_a_later_version_is_left_alone_and_fits(database):
    schema.upgrade(database)
    database.execute("UPDATE embedq_schema_version SET version_num = '0999'")

    assert schema.upgrade(database) == ("0999", "0999")
    assert schema.fits("0999") and not schema.fits("0004") and not schema.fits(None)


def test_a_change_of_the_schema_goes_on_when_the_writer_has_ended(database, in_use, in_thread):
    changing = in_thread(schema.downgrade, database, "0004")
    in_use.commit()

    assert changing.result(30) == (schema.LATEST, "0004")
    assert schema.upgrade(database) == ("0004", schema.LATEST)


def test_the_schema_in_one_file_is_what_the_migrations_make(database, empty):
    schema.upgrade(database)

    assert as_made(empty) == FILE.read_text(encoding="utf-8"), "write it anew: python -m tests.schema"


def test_a_plan_says_what_an_upgrade_would_do_and_changes_nothing(database, left):
    schema.upgrade(database, "0003")
    before = left()

    now, found = steps.ahead(database)

    assert (now, [step.revision for step in found][:2], found[-1].revision) == ("0003", ["0004", "0005"], schema.LATEST)
    assert all(step.about and step.sql for step in found)
    assert (schema.current(database), left()) == ("0003", before)
    schema.upgrade(database)
    assert steps.ahead(database) == (schema.LATEST, [])


def test_the_statements_of_a_plan_are_all_of_the_change(database):
    """Whoever reviews --sql reviews what is executed."""
    _, found = steps.ahead(database)

    assert all("see embedq/store/migrations" not in step.sql for step in found)
    assert [step.revision for step in found] == sorted(step.revision for step in found)
