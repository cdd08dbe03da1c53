"""The hot statements read indexes and stay flat, however much waits (EXPLAIN on more than 50,000 rows)."""

from __future__ import annotations

import json

import psycopg
import pytest

from embedq.model import Mode, Priority
from embedq.store.queries import QUERIES

ALL_MODES = list(Mode)
ROWS = 60_000


@pytest.fixture(scope="module")
def crowd(servers, template):
    """60,000 tasks of 1,000 tenants: due, waiting for their time, with the broker, held, done. Statements in it are rolled back."""
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE crowd TEMPLATE {template} STRATEGY file_copy")
        with psycopg.connect(servers.database_url.rsplit("/", 1)[0] + "/crowd") as connection:
            fill(connection)
            yield connection
        admin.execute("DROP DATABASE crowd WITH (FORCE)")


def fill(connection):
    connection.execute(
        "INSERT INTO articles (id, tenant_id, title) SELECT 'a' || n, 'tenant' || n %% 1000, 'x' FROM generate_series(1, %s) n",
        (ROWS,),
    )
    connection.execute(
        "INSERT INTO embedding_workers (id, delivery, name, host, pid, alive_until) OVERRIDING SYSTEM VALUE"
        " VALUES (1, 'poller', 'w', 'h', 1, now() + '1 h')"
    )
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False


def set_up(connection, kind):
    if kind == "future":
        connection.execute("UPDATE embedding_tasks SET scheduled_at = now() + interval '1 h' WHERE id % 100 <> 0")
    if kind == "one tenant":
        connection.execute("UPDATE embedding_tasks SET tenant_id = 'big' WHERE id % 100 <> 0")
    if kind == "dispatched":
        connection.execute("UPDATE embedding_tasks SET dispatched_at = now() - interval '1 h'")
    if kind == "held":
        connection.execute(
            "UPDATE embedding_tasks SET status = CASE WHEN id % 500 = 0 THEN 'processing' ELSE 'completed' END, claims = 1,"
            " lease_holder = CASE WHEN id % 500 = 0 THEN 1 END, processed_at = now() - interval '1 h'"
        )
    connection.execute("ANALYZE embedding_tasks")
    connection.execute("UPDATE embedding_worker_status SET mode = 'hybrid'")


@pytest.fixture
def explain(crowd):
    """The plan's nodes that touch the task table or sort, and the rows the statement returned, in a state of the crowd."""

    def run(statement, parameters, kind):
        set_up(crowd, kind)
        answer = crowd.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).fetchone()[0]
        plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
        return plan, list(nodes(plan))

    yield run
    crowd.rollback()


def nodes(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def assert_flat(found, *, most_rows):
    touching = [node for node in found if node.get("Relation Name") == "embedding_tasks"]
    assert touching, "the plan does not name the table"
    assert not [node for node in touching if node["Node Type"] == "Seq Scan"]
    for node in found:
        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if node["Node Type"].startswith(("Index", "Bitmap", "Sort", "Incremental Sort")):
            assert read <= most_rows, f"{node['Node Type']} {node.get('Index Name', '')} read {read} rows"


OVERDUE = {"older_s": 30.0, "limit": 100, "priorities": list(Priority), "modes": [Mode.HYBRID]}
FREE = {
    "modes": ALL_MODES,
    "priority": "normal",
    "after": "tenant5",
    "lanes": 64,
    "without": [],
    "limit": 100,
    "grace": "0 s",
    "unless_held": False,
    "standing_back": [Mode.HYBRID],
}


@pytest.mark.parametrize("kind", ["due", "future", "one tenant"])
def test_the_next_due_tasks_are_found_by_index(explain, kind):
    plan, found = explain(QUERIES.lock_free, FREE, kind)

    assert plan["Actual Rows"] > 10
    assert_flat(found, most_rows=2500 if kind == "future" else 600)
    assert any(node.get("Index Name") == "embedding_tasks_free" for node in found)


def test_tasks_that_are_all_with_the_broker_are_not_read_by_a_poller(explain):
    _, found = explain(QUERIES.lock_free, FREE, "dispatched")

    assert_flat(found, most_rows=10)


def test_the_tasks_of_a_message_are_found_by_their_key(explain):
    plan, found = explain(QUERIES.lock_named, {"modes": ALL_MODES, "ids": list(range(100, 200)), "limit": 100}, "dispatched")

    assert plan["Actual Rows"] == 100
    assert_flat(found, most_rows=200)


def test_overdue_tasks_are_found_by_index(explain):
    plan, found = explain(QUERIES.lock_dispatched, OVERDUE, "dispatched")

    assert plan["Actual Rows"] == 100
    assert_flat(found, most_rows=300)
    assert any(node.get("Index Name") == "embedding_tasks_dispatched" for node in found)


def test_a_settle_touches_only_its_own_rows(explain):
    ids = list(range(500, 500 * 101, 500))
    columns = {
        "ids": ids,
        "claims": [1] * 100,
        "statuses": ["completed"] * 100,
        "versions": [1] * 100,
        "charged": [True] * 100,
        "waits": [0.0] * 100,
        "classes": [None] * 100,
        "messages": [None] * 100,
    }

    plan, found = explain(QUERIES.settle, columns | {"worker": 1, "worker_name": "w"}, "held")

    assert plan["Actual Rows"] == 100
    assert_flat(found, most_rows=300)


def test_a_rescue_reads_only_what_is_held(explain):
    plan, found = explain(QUERIES.rescue, {"timeout_s": 300.0, "limit": 5000, "max_losses": 10}, "held")

    assert plan["Actual Rows"] == ROWS // 500
    assert_flat(found, most_rows=500)


def test_a_delete_of_an_article_reads_only_its_own_rows(explain, crowd):
    set_up(crowd, "due")

    for statement in (
        "DELETE FROM embeddings WHERE article_id = ANY (%(ids)s)",
        "DELETE FROM embedding_vectors WHERE article_id = ANY (%(ids)s)",
    ):
        crowd.execute("SET LOCAL enable_seqscan = off")
        plan = crowd.execute(f"EXPLAIN (FORMAT JSON) {statement}", {"ids": ["a1"]}).fetchone()[0][0]["Plan"]
        conditions = [node["Index Cond"] for node in nodes(plan) if "Index Cond" in node]
        keys = [node["Index Name"] for node in nodes(plan) if "Index Name" in node]
        assert conditions, "no index helps"
        for key in keys:
            ((definition,),) = crowd.execute("SELECT pg_get_indexdef(%s::regclass)", (key,)).fetchall()
            assert "(article_id," in definition
