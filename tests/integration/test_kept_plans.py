"""A prepared statement keeps its plan. One that was made while the tables were empty must do for a first bulk load as well."""

from __future__ import annotations

import json
import time

import psycopg
import pytest

from embedq.model import Delivery, Priority
from embedq.store import Store
from embedq.store.database import Database
from embedq.store.queries import QUERIES

MODES = ["celery"]
SETTLED = {
    "ids": [1],
    "claims": [1],
    "statuses": ["completed"],
    "versions": [1],
    "charged": [True],
    "waits": [0.0],
    "classes": [None],
    "messages": [None],
    "worker": 1,
    "worker_name": "w",
}
HOT = {
    "lock_named": {"modes": MODES, "ids": [1], "limit": 100},
    "take": {"ids": [1], "worker": 1, "delivery": "celery"},
    "settle": SETTLED,
    "free_named": {"ids": [1]},
    "free_lost": {"priority": "low", "after_s": 5.0, "first": [1], "empty": False, "held": [], "again": []},
    "depths": {"dispatched": 100, "free": 401},
}


@pytest.fixture
def worker_session(database_url, psql):
    """A connection as a worker has it, to tables that PostgreSQL knows to be empty."""
    psql("VACUUM ANALYZE")
    database = Database(database_url, by_index=True)
    with database.connect() as connection:
        yield connection


def nodes(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


@pytest.mark.parametrize("name", HOT)
def test_a_worker_plans_no_reading_of_whole_tables_while_they_are_empty(worker_session, name):
    row = worker_session.execute(f"EXPLAIN (FORMAT JSON) {getattr(QUERIES, name)}", HOT[name], prepare=True).fetchone()

    answer = row["QUERY PLAN"]
    plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    growing = {"embedding_tasks", "article_texts", "embeddings"}
    assert [
        node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan" and node["Relation Name"] in growing
    ] == []


def test_a_worker_makes_one_plan_for_all_claims(database_url, psql):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'x' FROM generate_series(1, 30) n")
    store = Store(Database(database_url, size=1, by_index=True))
    worker = store.workers.register("poller", "plans", [], 300.0)

    claimed = [len(store.tasks.claim_due(worker, Delivery.POLLER, tuple(Priority), 2)) for _ in range(10)]

    assert claimed == [2] * 10
    plans = store.database.one("SELECT sum(generic_plans) AS kept, sum(custom_plans) AS anew FROM pg_prepared_statements")
    store.close()
    assert plans["kept"] > 20
    assert plans["anew"] == 0


def test_a_writers_session_reads_no_whole_table_after_others_have_filled_it(psql, database_url):
    psql("VACUUM ANALYZE")
    with psycopg.connect(database_url, autocommit=True) as writer:
        for number in range(10):
            writer.execute("INSERT INTO articles (id, title) VALUES (%s, 'x')", (f"early {number}",))
        psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'x' FROM generate_series(1, 5000) n")
        psql("UPDATE articles SET title = 'y'")

        with writer.transaction():
            writer.execute("INSERT INTO articles (id, title) VALUES ('late', 'x')")
            read = writer.execute(
                "SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE seq_tup_read > 100"
            ).fetchall()

    assert read == []


MANY = 6000


def seconds(session, statement):
    began = time.monotonic()
    session.execute(statement)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("single", "bulk"),
    [
        pytest.param(
            "UPDATE articles SET content = content || '.' WHERE id = 'a1'",
            "UPDATE articles SET content = content || '!'",
            id="edit",
        ),
        pytest.param(
            "UPDATE articles SET metadata = '{}' WHERE id = 'a1'",
            """UPDATE articles SET metadata = '{"a": 1}'""",
            id="metadata",
        ),
        pytest.param(
            "UPDATE articles SET tenant_id = 't' || random() WHERE id = 'a1'",
            "UPDATE articles SET tenant_id = 'moved'",
            id="move",
        ),
    ],
)
def test_a_bulk_update_after_single_ones_is_no_square_of_its_rows(psql, database_url, single, bulk):
    """The triggers keep the plans of a session's first statements. Both are timed in one run; the square was 10 times as slow at 12,000 rows."""
    psql("INSERT INTO articles (id, content) SELECT 'a' || n, 'text' FROM generate_series(1, %s) n", MANY)
    psql("ANALYZE")
    with psycopg.connect(database_url) as fresh, psycopg.connect(database_url) as used:
        first_s = seconds(fresh, bulk)
        fresh.rollback()
        for _ in range(12):
            used.execute(single)

        second_s = seconds(used, bulk)
        used.rollback()

    assert second_s < 4 * first_s
