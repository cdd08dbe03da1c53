"""What a page of the console looks at: a bounded window, or an index of what matches; never a whole table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from embedq.model import TaskStatus
from embedq.store import Store
from embedq.store.bulk import Picked
from embedq.store.console import Console, Cursor, Order, Page, _bounds, _is_pending, _with
from embedq.store.database import Database
from embedq.store.queries import QUERIES

Rows = Callable[..., list[tuple[Any, ...]]]
ANY = tuple(TaskStatus)


@pytest.fixture
def console(database_url: str, psql: Rows) -> Console:
    """A hundred tasks; the windows have ten."""
    psql("INSERT INTO articles (id, title) SELECT 'a' || lpad(n::text, 3, '0'), 'x' FROM generate_series(1, 100) n")
    return Console(Database(database_url), window=10)


def pages(console: Console, picked: Picked, order: Order, limit: int = 4) -> list[Page]:
    found, cursor = list[Page](), None
    while True:
        page = console.tasks(picked, order, cursor, limit)
        found.append(page)
        cursor = page.following
        if cursor is None:
            return found


@pytest.mark.parametrize("order", [Order.NEWEST, Order.OLDEST, Order.ENDED])
def test_what_is_rare_is_found_window_by_window(console: Console, psql: Rows, order: Order) -> None:
    psql("UPDATE embedding_tasks SET status = 'skipped', completed_at = now() - id * interval '1 s'")
    psql("UPDATE embedding_tasks SET tenant_id = 'rare' WHERE id IN (3, 50, 51, 97)")

    found = pages(console, Picked(ANY, tenants=["rare"]), order)

    numbers = [row["id"] for page in found for row in page.rows]
    assert numbers == ([97, 51, 50, 3] if order is Order.NEWEST else [3, 50, 51, 97])
    assert len(found) in (10, 11)
    assert all(page.window_end for page in found[:-1])
    assert not found[-1].window_end


@pytest.mark.parametrize("order", [Order.NEWEST, Order.OLDEST])
@pytest.mark.parametrize(
    "picked",
    [
        pytest.param(Picked(("failed",)), id="failed"),
        pytest.param(Picked(("pending",)), id="waiting, in the table and with the broker"),
        pytest.param(Picked(("processing",)), id="held"),
        pytest.param(Picked(ANY, articles=["a003", "a050", "a051", "a097"]), id="of articles"),
        pytest.param(Picked(ANY, ids=[3, 50, 51, 97]), id="by number"),
    ],
)
def test_what_an_index_leads_to_is_on_one_page(console: Console, psql: Rows, order: Order, picked: Picked) -> None:
    few, state = "(3, 50, 51, 97)", picked.statuses[0] if len(picked.statuses) == 1 else "completed"
    psql(f"UPDATE embedding_tasks SET status = 'completed', completed_at = now() WHERE id NOT IN {few}")
    held = ", lease_holder = 1, claims = 1" if state == "processing" else ""
    psql(
        f"UPDATE embedding_tasks SET status = '{state}', dispatched_at = CASE id WHEN 3 THEN now() END{held} WHERE id IN {few}"
    )
    psql("ANALYZE embedding_tasks")

    (page,) = pages(console, picked, order)

    assert sorted(row["id"] for row in page.rows) == [3, 50, 51, 97]
    assert not page.window_end


def test_a_page_ends_where_the_rows_end(console: Console) -> None:
    (page,) = pages(console, Picked(ANY), Order.NEWEST, limit=1000)[:1]

    assert len(page.rows) == 10  # the window
    assert page.following == Cursor(91)


@pytest.fixture(scope="module")
def crowd(servers: Any, template: str) -> Any:
    """60,000 completed tasks; of every other status a few."""
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE console_crowd TEMPLATE {template} STRATEGY file_copy")  # type: ignore[arg-type]
        url = servers.database_url.rsplit("/", 1)[0] + "/console_crowd"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO articles (id, title) SELECT 'a' || n, 'x' FROM generate_series(1, 60000) n")
            connection.execute(
                "UPDATE embedding_tasks SET status = CASE id % 5000 WHEN 1 THEN 'failed' WHEN 2 THEN 'pending' WHEN 3 THEN 'processing'"
                " ELSE 'completed' END, completed_at = now() - id * interval '1 s', error_class = 'X', claims = 1,"
                " lease_holder = CASE id % 5000 WHEN 3 THEN 1 END"
            )
            connection.execute("VACUUM ANALYZE embedding_tasks")
            yield url
        admin.execute("DROP DATABASE console_crowd WITH (FORCE)")


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize(
    "picked",
    [
        pytest.param(Picked(ANY), id="all"),
        pytest.param(Picked(ANY, tenants=["nobody"], message_like="%x%", task_reason="import"), id="rare"),
        pytest.param(Picked(("failed",), error_class="X"), id="failed"),
        pytest.param(Picked(("pending",)), id="waiting"),
        pytest.param(Picked(("processing",)), id="held"),
        pytest.param(Picked(ANY, articles=["a77"]), id="of an article"),
    ],
)
def test_no_page_reads_the_whole_table(crowd: str, picked: Picked, order: Order) -> None:
    """As the page's statement is sent; 60,000 tasks are more than a window of 5,000."""
    store = Store(Database(crowd))
    console = Console(store.database, window=5_000)
    direct = console._has_few(picked)
    asked = picked.parameters() | _bounds(order, None) | {"page": 51, "window": 5_000}
    with store.database.transaction() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        statement = _with("console_tasks", order, direct=direct, pending=_is_pending(picked))
        plan: Any = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) " + statement, asked).fetchone()
    store.close()

    read = list(_scanned(plan["QUERY PLAN"][0]["Plan"]))
    assert sum(rows for _, rows in read) <= 5_100, json.dumps(plan, indent=1)
    assert "Seq Scan" not in [kind for kind, _ in read]


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("settled_steps", "completed_at"),
        ("depth_samples", '"timestamp"'),
        ("console_ended", '"timestamp"'),
        ("console_sampled_depth", '"timestamp"'),
    ],
)
def test_a_chart_reads_its_time_by_index(crowd: str, statement: str, column: str) -> None:
    asked = {"seconds": 600, "step_s": 10, "cap": 50_000, "buckets": 60, "bucket_s": 10, "look_s": 10.0, "by": "priority"}
    with psycopg.connect(crowd) as connection:
        connection.execute("SET enable_seqscan = off")
        lines = connection.execute("EXPLAIN " + getattr(QUERIES, statement), asked).fetchall()

    conditions = [line for (line,) in lines if "Index Cond" in line]
    assert any(f"{column} > (now()" in line for line in conditions), lines


def _scanned(node: dict[str, Any]) -> Any:
    """Kind and rows (kept and left out) of every scan of the tasks."""
    if node.get("Relation Name") == "embedding_tasks":
        yield node["Node Type"], (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    for part in node.get("Plans", []):
        yield from _scanned(part)


def test_estimates_and_counts(console: Console, psql: Rows) -> None:
    psql("UPDATE embedding_tasks SET status = 'failed', error_class = 'X' WHERE id <= 30")
    psql("ANALYZE embedding_tasks")

    assert console.estimate(Picked(ANY)) == 100
    assert console.estimate(Picked(("failed",))) == 30
    assert console.count(Picked(("failed",), error_class="X")) == 30
    assert console.count(Picked(ANY), cap=17) == 17


def test_classes_of_errors_are_counted_as_far_as_asked(console: Console, psql: Rows) -> None:
    psql(
        "UPDATE embedding_tasks SET status = 'failed', error_class = 'class ' || id / 40, completed_at = now(), tenant_id = 't' || id % 3"
    )

    found = console.error_classes(cap=25)

    assert [(row["error_class"], row["tasks"]) for row in found] == [("class 0", 25), ("class 1", 25), ("class 2", 21)]
    assert all(sorted(row["tenants"]) == ["t0", "t1", "t2"] for row in found)


def test_every_filter_has_a_plan_of_its_own(console: Console, database_url: str, psql: Rows) -> None:
    """A plan that PostgreSQL keeps for all filters looks for the tasks of one article among all tasks. It keeps one when that seems cheaper."""
    psql(f"ALTER DATABASE {database_url.rsplit('/', 1)[1]} SET plan_cache_mode = force_generic_plan")
    alone = Console(Database(database_url, size=1))

    for _ in range(6):  # psycopg prepares a statement when it is executed for the sixth time
        alone.tasks(Picked(("failed",)))
        alone.count(Picked(("failed",)))

    kept = alone.database.fetch(
        "SELECT statement, generic_plans FROM pg_prepared_statements WHERE statement ~ 'FROM embedding_tasks'"
    )
    planned = [each for each in kept if not each["statement"].startswith("EXPLAIN")]
    assert len(planned) == 2
    assert [each["statement"] for each in planned if each["generic_plans"]] == []
