"""The shape of the work, not its speed: statements, requests, messages and bytes for a thousand tasks, and plans that stay linear."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
import redis

from embedq import Client, wiring
from embedq.engine.runs import NextDue, TheseTasks
from embedq.model import Priority
from embedq.settings import from_env
from embedq.steward.dispatcher import Dispatcher
from embedq.store.database import Database
from embedq.store.queries import QUERIES

BATCH, TASKS = 100, 1000


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every statement that our own connections send while the test runs, by its first words. BEGIN and COMMIT are not among them."""
    counted: Counter[str] = Counter()

    class Counting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *parameters: Any, **options: Any) -> Any:
            counted[str(query)[:60]] += 1
            return super().execute(query, *parameters, **options)

        def copy(self, statement: Any, *parameters: Any, **options: Any) -> Any:
            counted[str(statement)[:60]] += 1
            return super().copy(statement, *parameters, **options)

    opened = Database._open

    def open_counting(database: Database, name: str, settings: Mapping[str, str]) -> Any:
        connection = opened(database, name, settings)
        connection.cursor_factory = Counting
        return connection

    monkeypatch.setattr(Database, "_open", open_counting)
    return counted


@pytest.fixture
def parts(environment: dict[str, str], sent: Counter[str]) -> Iterator[Callable[[str], wiring.WorkerParts]]:
    """A worker of a delivery in this process, registered, without its threads: a heartbeat would be counted too."""
    made: list[wiring.WorkerParts] = []

    def make(delivery: str) -> wiring.WorkerParts:
        settings = from_env(environment | {"EMBEDDING_BATCH_SIZE": str(BATCH)})
        its = wiring.worker_parts(settings, delivery)
        its.worker.id = its.store.workers.register(delivery, "shape", [], 300.0)
        made.append(its)
        return its

    yield make
    for each in made:
        each.broker.close()
        each.store.close()


def test_a_poller_needs_few_statements_and_one_request_a_batch(psql: Any, add: Any, parts: Any, sent: Counter[str]) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text ' || n FROM generate_series(1, %s) n", TASKS)
    poller = parts("poller")
    sent.clear()

    claimed = [poller.engine.run(NextDue()).claimed for _ in range(TASKS // BATCH)]

    assert claimed == [BATCH] * 10
    assert poller.worker.counters["requests"] == 10
    assert poller.worker.counters["completed"] == TASKS
    assert len(sent) >= 8, "nothing is counted"
    assert sum(sent.values()) <= 10 * 16, sent.most_common()


def test_a_message_needs_few_statements_and_one_request(psql: Any, parts: Any, sent: Counter[str]) -> None:
    worker = parts("celery")
    psql(
        "INSERT INTO articles (id, title) VALUES ('first', 'a process''s first batch also reads its model and compares the canary')"
    )
    worker.engine.run(TheseTasks([row[0] for row in psql("SELECT id FROM embedding_tasks")]))
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text ' || n FROM generate_series(1, %s) n", BATCH)
    ids = [row[0] for row in psql("SELECT id FROM embedding_tasks WHERE status = 'pending' ORDER BY id")]
    sent.clear()

    report = worker.engine.run(TheseTasks(ids))

    assert (report.claimed, worker.worker.counters["requests"]) == (BATCH, 2)
    assert len(sent) >= 8, "nothing is counted"
    assert sum(sent.values()) <= 13, sent.most_common()


def test_a_message_whose_tasks_are_done_costs_no_more_than_a_look(psql: Any, parts: Any, sent: Counter[str]) -> None:
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text ' || n FROM generate_series(1, %s) n", BATCH)
    ids = [row[0] for row in psql("SELECT id FROM embedding_tasks ORDER BY id")]
    worker = parts("celery")
    worker.engine.run(TheseTasks(ids))
    sent.clear()

    report = worker.engine.run(TheseTasks(ids))

    assert (report.claimed, worker.worker.counters["requests"]) == (0, 1)
    assert 1 <= sum(sent.values()) <= 6, sent.most_common()


def test_a_thousand_tasks_are_ten_messages_of_little_more_than_their_ids(psql: Any, parts: Any, redis_url: str) -> None:
    psql("ALTER TABLE embedding_tasks ALTER id RESTART WITH 3000000000")
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text ' || n FROM generate_series(1, %s) n", TASKS)
    its = parts("celery").steward.dispatcher

    dispatched = Dispatcher(its.store, its.broker, its.settings).dispatch()

    messages = redis.Redis.from_url(redis_url).lrange(Priority.NORMAL, 0, -1)
    assert (dispatched, len(messages)) == (TASKS, 10)
    assert max(map(len, messages)) <= BATCH * 40, max(map(len, messages))


def test_a_look_for_what_to_dispatch_asks_two_things_when_nothing_waits(parts: Any, sent: Counter[str]) -> None:
    steward = parts("celery").steward
    sent.clear()

    steward.dispatch()

    assert 1 <= sum(sent.values()) <= 2, sent.most_common()


def test_a_save_through_the_api_is_one_statement_and_the_room_in_the_broker_is_looked_up_once_for_many(
    environment: dict[str, str], sent: Counter[str]
) -> None:
    with Client(from_env(environment)) as client:
        client.create("A first one", "opens the connection and looks up the room")
        sent.clear()

        for n in range(20):
            client.create("An article", f"with text {n}")

    creates = sent[QUERIES.create_article[:60]]
    assert creates == 20
    # A look is 3 statements, at most one a second; 20 saves take less than two on any machine that runs the rest of these tests.
    assert sum(sent.values()) - creates <= 9, sent.most_common()


@pytest.fixture
def five_hundred(psql: Any, database_url: str) -> Iterator[tuple[psycopg.Connection[Any], list[int]]]:
    """500 tasks among 20,000, their statistics as of a time when nobody held anything; the plans are those of a prepared statement."""
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text ' || n FROM generate_series(1, 20000) n")
    psql("ANALYZE")
    with psycopg.connect(database_url) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(
            "INSERT INTO embedding_workers (id, delivery, name, host, pid, alive_until) OVERRIDING SYSTEM VALUE"
            " VALUES (1, 'poller', 'w', 'h', 1, now() + '1 h')"
        )
        ids = connection.execute("SELECT id FROM embedding_tasks ORDER BY id LIMIT 500").fetchall()
        yield connection, [row[0] for row in ids]
        connection.rollback()


def test_a_large_claim_probes_for_each_article_and_reads_no_table(five_hundred: Any) -> None:
    connection, ids = five_hundred

    found = _plan(connection, QUERIES.take, {"ids": ids, "worker": 1, "delivery": "poller"})

    assert not [
        node
        for node in found
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in ("embeddings", "embedding_workers")
    ]
    assert _compared(found) <= 500 * 12


@pytest.mark.parametrize(
    ("status", "each"),
    [pytest.param("completed", 13, id="completed"), pytest.param("pending", 17, id="pending, which also locks the article")],
)
def test_a_large_settle_never_compares_each_with_each(five_hundred: Any, status: str, each: int) -> None:
    connection, ids = five_hundred
    connection.execute(QUERIES.take, {"ids": ids, "worker": 1, "delivery": "poller"})
    outcomes = {
        "ids": ids,
        "claims": [1] * 500,
        "statuses": [status] * 500,
        "versions": [1] * 500,
        "charged": [True] * 500,
        "waits": [1.0] * 500,
        "classes": ["Fault"] * 500,
        "messages": ["a fault"] * 500,
    }

    found = _plan(connection, QUERIES.settle, outcomes | {"worker": 1, "worker_name": "w"})

    assert found[0]["Actual Rows"] == 500
    assert _compared(found) <= 500 * each


def _plan(connection: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters, prepare=True).fetchone()  # type: ignore[arg-type]
    assert row is not None
    answer = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return list(_nodes(answer[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def _compared(found: list[dict[str, Any]]) -> int:
    """Rows that the nodes gave out or threw away, all together."""
    return sum(
        int(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0))
            * node["Actual Loops"]
        )
        for node in found
    )
