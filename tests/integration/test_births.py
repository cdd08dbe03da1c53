"""Tasks are born in the writer's transaction, whoever writes."""

from __future__ import annotations

import re
import textwrap

import psycopg
import pytest

from tests.support import ROOT


@pytest.fixture
def statements(psql):
    """How many INSERT statements the task table has seen, counted by a trigger of the test's own."""
    psql("CREATE TABLE seen (at timestamptz DEFAULT clock_timestamp())")
    psql("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen DEFAULT VALUES; RETURN NULL; END'")
    psql("CREATE TRIGGER note BEFORE INSERT ON embedding_tasks FOR EACH STATEMENT EXECUTE FUNCTION note()")
    return lambda: psql("SELECT count(*) FROM seen")[0][0]


def test_an_insert_by_raw_sql_makes_one_pending_task(psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

    assert psql("SELECT article_id, status, priority, metadata->>'reason' FROM embedding_tasks") == [
        ("a", "pending", "normal", "create")
    ]


def test_an_edit_updates_the_waiting_task_instead_of_making_another(psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

    psql("UPDATE articles SET content = 'Steep it' WHERE id = 'a'")

    assert psql("SELECT article_id, version FROM embedding_tasks") == [("a", 2)]


@pytest.mark.parametrize("change", ['metadata = \'{"colour": "green"}\'', "slug = 'tea'", "content = content, title = title"])
def test_an_update_that_leaves_the_text_as_it_was_makes_no_task(psql, change):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
    psql("DELETE FROM embedding_tasks")

    psql(f"UPDATE articles SET {change} WHERE id = 'a'")

    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]
    assert psql("SELECT version FROM articles") == [(1,)]


@pytest.mark.slow
def test_a_hundred_thousand_articles_in_one_statement_are_one_upsert(psql, statements):
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'title ' || n FROM generate_series(1, 100000) n")

    assert psql("SELECT count(*), count(DISTINCT article_id) FROM embedding_tasks WHERE status = 'pending'") == [
        (100_000, 100_000)
    ]
    assert statements() == 1


def test_an_update_of_many_articles_is_one_upsert(psql, statements):
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'title ' || n FROM generate_series(1, 500) n")

    psql("UPDATE articles SET content = 'new' WHERE id <> 'a1'")

    assert statements() == 2
    assert psql("SELECT version, count(*) FROM embedding_tasks GROUP BY 1 ORDER BY 1") == [(1, 1), (2, 499)]


def test_priority_and_reason_can_be_set_for_a_transaction_and_end_with_it(database_url, psql):
    with psycopg.connect(database_url) as connection:
        connection.execute("SET LOCAL embedq.priority = 'urgent'")
        connection.execute("SELECT set_config('embedq.reason', 'migration', true)")
        connection.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
        connection.commit()
        connection.execute("INSERT INTO articles (id, title) VALUES ('b', 'Coffee')")

    assert psql("SELECT article_id, priority, metadata->>'reason' FROM embedding_tasks ORDER BY 1") == [
        ("a", "urgent", "migration"),
        ("b", "normal", "create"),
    ]


def test_a_priority_that_is_none_is_refused_with_the_names_that_are(psql):
    psql("SET embedq.priority = 'asap'")

    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")

    assert refused.value.diag.message_hint == "set it to urgent, high, normal or low"
    assert psql("SELECT count(*) FROM articles") == [(0,)]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [("normal", "urgent", "urgent"), ("urgent", "low", "urgent"), ("low", "high", "high"), ("high", "high", "high")],
)
def test_an_edit_may_raise_the_priority_and_never_lowers_it(psql, first, second, kept):
    psql("SELECT set_config('embedq.priority', %s, false)", first)
    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")

    psql("SELECT set_config('embedq.priority', %s, false)", second)
    psql("UPDATE articles SET title = 'Green tea'")

    assert psql("SELECT priority FROM embedding_tasks") == [(kept,)]


def test_a_raised_priority_takes_the_task_back_from_the_less_urgent_queue(psql):
    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea'), ('b', 'Coffee')")
    psql("UPDATE embedding_tasks SET dispatched_at = now()")

    psql("SET embedq.priority = 'urgent'")
    psql("UPDATE articles SET title = 'Green tea' WHERE id = 'a'")
    psql("SET embedq.priority = 'low'")
    psql("UPDATE articles SET title = 'Black coffee' WHERE id = 'b'")

    assert psql("SELECT article_id, dispatched_at IS NULL FROM embedding_tasks ORDER BY 1") == [("a", True), ("b", False)]


def test_an_edit_during_embedding_leaves_one_successor(psql, add, poller):
    add("a")
    poller.claim()

    psql("UPDATE articles SET content = 'second' WHERE id = 'a'")
    psql("UPDATE articles SET content = 'third' WHERE id = 'a'")

    assert psql("SELECT status, version FROM embedding_tasks ORDER BY id") == [("processing", 1), ("pending", 3)]


def test_a_delete_cancels_open_tasks_and_removes_the_vectors(psql, add, poller):
    add("a", "b", "c", "kept")
    tasks = {task.article_id: task for task in poller.claim()}
    poller.settle_done(tasks["a"], tasks["kept"])
    psql("UPDATE articles SET content = 'new' WHERE id IN ('a', 'b')")

    psql("DELETE FROM articles WHERE id <> 'kept'")

    assert psql("SELECT DISTINCT status FROM embedding_tasks WHERE article_id IN ('b', 'c')") == [("cancelled",)]
    assert psql("SELECT status FROM embedding_tasks WHERE article_id = 'a' ORDER BY id") == [("completed",), ("cancelled",)]
    assert psql("SELECT article_id FROM embedding_vectors") == psql("SELECT article_id FROM embeddings") == [("kept",)]


@pytest.mark.parametrize("statement", ["TRUNCATE article_texts", "TRUNCATE article_texts CASCADE"])
def test_a_truncate_cancels_every_open_task_and_removes_every_vector(psql, add, poller, statement):
    add("a", "b", "c")
    poller.settle_done(poller.claim(1)[0])
    poller.claim(1)

    psql(statement)

    assert psql("SELECT status, count(*) FROM embedding_tasks GROUP BY 1 ORDER BY 1") == [("cancelled", 2), ("completed", 1)]
    assert psql("SELECT count(*) FROM embedding_vectors") == psql("SELECT count(*) FROM embeddings") == [(0,)]


def test_an_upsert_through_the_view_makes_and_updates_tasks(psql):
    upsert = "INSERT INTO articles (id, title) VALUES ('a', %s), ('b', 'Coffee') ON CONFLICT (id) DO UPDATE SET title = excluded.title"

    psql(upsert, "Tea")
    psql(upsert, "Green tea")

    assert psql("SELECT article_id, version, metadata->>'reason' FROM embedding_tasks ORDER BY 1") == [
        ("a", 2, "update"),
        ("b", 1, "create"),
    ]


def test_copy_makes_tasks(database_url, psql):
    copying = "COPY article_texts (id, title, content) FROM STDIN"
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor, cursor.copy(copying) as copy:
        for number in range(1000):
            copy.write_row((f"a{number}", "Tea", "text"))

    assert psql("SELECT count(DISTINCT article_id) FROM embedding_tasks WHERE status = 'pending'") == [(1000,)]


def test_a_rollback_leaves_neither_article_nor_task(database_url, psql):
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
        assert connection.execute("SELECT count(*) FROM embedding_tasks").fetchone() == (1,)
        connection.rollback()

    assert psql("SELECT count(*) FROM embedding_tasks") == psql("SELECT count(*) FROM articles") == [(0,)]


@pytest.mark.parametrize("setting", ["mode = 'sync'", "mode = 'off'", "submissions_accepted = false"])
def test_articles_are_saved_and_no_task_is_made_while_tasks_are_switched_off(psql, setting):
    psql(f"UPDATE embedding_worker_status SET {setting}")

    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    psql("UPDATE articles SET title = 'Green tea'")

    assert psql("SELECT title FROM articles") == [("Green tea",)]
    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]


def test_what_was_written_while_submissions_were_paused_becomes_tasks_by_reconcile(psql, store):
    psql("UPDATE embedding_worker_status SET submissions_accepted = false")
    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea'), ('b', 'Coffee')")
    psql("UPDATE embedding_worker_status SET submissions_accepted = true")

    made = store.care.reconcile()["made"]

    assert made == 2
    assert psql("SELECT article_id, status FROM embedding_tasks ORDER BY 1") == [("a", "pending"), ("b", "pending")]


def test_a_process_whose_queue_is_off_makes_no_task_while_others_do(database_url, psql):
    with psycopg.connect(database_url) as connection:
        connection.execute("SET LOCAL embedq.mode = 'sync'")
        connection.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    psql("INSERT INTO articles (id, title) VALUES ('b', 'Coffee')")

    assert psql("SELECT article_id FROM embedding_tasks") == [("b",)]


def test_a_writer_with_another_search_path_reaches_the_right_tables(psql):
    psql("CREATE SCHEMA elsewhere")
    psql("SET search_path = elsewhere")

    psql("INSERT INTO public.articles (id, title) VALUES ('a', 'Tea')")

    assert psql("SELECT article_id FROM public.embedding_tasks") == [("a",)]


@pytest.mark.parametrize("mode", ["celery", "database", "hybrid"])
def test_whoever_sleeps_is_woken_by_a_write_of_any_program(psql, database_url, mode):
    psql("UPDATE embedding_worker_status SET mode = %s", mode)
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, alive_until, asleep_until)"
        " VALUES ('celery', 'w', 'h', 1, now() + '1 h', now() + '1 h')"
    )
    with psycopg.connect(database_url, autocommit=True) as listening, psycopg.connect(database_url) as other:
        listening.execute("LISTEN embedq_public")

        other.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
        other.commit()

        assert [notice.channel for notice in listening.notifies(timeout=5, stop_after=1)] == ["embedq_public"]


def test_an_id_that_is_used_again_continues_its_history_in_a_statement_of_many(psql):
    psql("INSERT INTO articles (id, title) VALUES ('old', 'first life')")
    psql("UPDATE articles SET title = 'first life, edited'")
    psql("DELETE FROM articles")
    psql("DELETE FROM embedding_tasks")

    psql("INSERT INTO articles (id, title) VALUES ('old', 'second life'), ('new', 'only life')")

    assert psql("SELECT id, version FROM articles ORDER BY id") == [("new", 1), ("old", 3)]
    assert psql("SELECT article_id, version, metadata->>'reason' FROM embedding_tasks ORDER BY 1") == [
        ("new", 1, "create"),
        ("old", 3, "create"),
    ]
    assert psql("SELECT version_number, title FROM article_versions ORDER BY 1") == [
        (1, "first life"),
        (2, "first life, edited"),
    ]


def test_what_somebodys_own_trigger_edits_while_a_history_is_continued_is_an_edit(psql):
    psql("INSERT INTO articles (id, content) VALUES ('parent', 'one child'), ('child', 'first')")
    psql("DELETE FROM articles WHERE id = 'child'")
    psql("""
        CREATE FUNCTION count_children() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE articles SET content = 'two children' WHERE id = 'parent';
            RETURN NULL;
        END $$""")
    psql("""
        CREATE TRIGGER count_children AFTER UPDATE ON article_texts
        FOR EACH ROW WHEN (NEW.id = 'child') EXECUTE FUNCTION count_children()""")

    psql("INSERT INTO articles (id, content) VALUES ('child', 'second')")

    assert psql("SELECT id, version FROM articles ORDER BY id") == [("child", 2), ("parent", 2)]
    assert psql("SELECT content FROM article_versions WHERE article_id = 'parent'") == [("one child",)]
    assert psql("SELECT version FROM embedding_tasks WHERE article_id = 'parent' AND status = 'pending'") == [(2,)]


def test_a_role_with_the_rights_of_the_documentation_can_write_articles(database_url, admin_url, psql):
    grants = re.search(r"code-block:: sql\n\n(.*?)\n\S", (ROOT / "docs/why/articles-view.rst").read_text(), re.DOTALL)
    assert grants is not None
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE its_application LOGIN PASSWORD 'its password'")
    try:
        for statement in filter(str.strip, textwrap.dedent(grants[1]).split(";")):
            psql(statement)
        with psycopg.connect(database_url, user="its_application", password="its password", autocommit=True) as application:
            application.execute("INSERT INTO articles (id, content) VALUES ('a', 'first')")
            application.execute("UPDATE articles SET content = 'second', tenant_id = 'other' WHERE id = 'a'")
            application.execute("DELETE FROM articles WHERE id = 'a'")
            application.execute("INSERT INTO articles (id, content) VALUES ('a', 'third')")
        assert psql("SELECT version, content FROM articles") == [(3, "third")]
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute("DROP OWNED BY its_application; DROP ROLE its_application")


def test_a_version_is_nobodys_to_choose(psql):
    psql("INSERT INTO article_texts (id, title, version) VALUES ('a', 'Tea', 7)")

    assert psql("SELECT version FROM articles") == [(1,)]


def test_an_article_created_again_is_told_the_version_that_it_has(client, psql):
    client.create("Tea", "first life", id="a")
    client.delete("a")

    told = client.create("Tea", "second life", id="a")

    assert told.version == 2
    assert client.get("a") == told


def test_who_waits_for_a_deletion_to_end_continues_its_history(psql, session):
    psql("INSERT INTO articles (id, title) VALUES ('a', 'first life')")
    deleting, inserting = session(), session()
    deleting.do("DELETE FROM articles WHERE id = 'a'")
    waiting = inserting.begin("INSERT INTO articles (id, title) VALUES ('a', 'second life')")
    inserting.until_it_waits()

    deleting.connection.commit()
    waiting.result(10)
    inserting.connection.commit()

    assert psql("SELECT version FROM articles") == [(2,)]
