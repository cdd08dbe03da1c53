"""Operators change the task table by hand: every such change is taken well, at once."""

from __future__ import annotations

import psycopg
import pytest

from embedq.model import Outcome, TaskStatus


def test_waiting_tasks_can_be_failed_and_are_not_claimed_any_more(psql, add, poller):
    add("a", "b")

    psql("UPDATE embedding_tasks SET status = 'failed' WHERE article_id = 'a' AND status = 'pending'")

    assert [task.article_id for task in poller.claim()] == ["b"]
    assert psql("SELECT error_class, error_message, completed_at IS NOT NULL FROM embedding_tasks WHERE status = 'failed'") == [
        ("by hand", "set to failed by hand", True)
    ]


def test_an_operators_own_words_are_kept(psql, add):
    add("a")

    psql("UPDATE embedding_tasks SET status = 'failed', error_message = 'see ticket 42'")

    assert psql("SELECT error_message FROM embedding_tasks") == [("see ticket 42",)]


@pytest.mark.parametrize("also", ["", ", lease_holder = NULL", ", error_message = NULL"])
@pytest.mark.parametrize("dispatched", [False, True])
def test_a_stuck_task_set_back_by_hand_is_claimed_at_once(psql, add, poller, another, also, dispatched):
    add("a")
    if dispatched:
        psql("UPDATE embedding_worker_status SET mode = 'hybrid'")
        psql("UPDATE embedding_tasks SET dispatched_at = now()")
        poller.claim_named(psql("SELECT id FROM embedding_tasks")[0][0])
    else:
        poller.claim()

    psql(f"UPDATE embedding_tasks SET status = 'pending', processed_at = NULL{also} WHERE status = 'processing'")

    assert len(another().claim()) == 1


def test_a_stuck_task_set_back_although_a_successor_waits_gives_way_to_it(psql, add, poller):
    add("a", "b")
    poller.claim()
    psql("UPDATE articles SET content = 'new' WHERE id = 'a'")

    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'processing'")

    assert psql("SELECT article_id, status FROM embedding_tasks ORDER BY id") == [
        ("a", "cancelled"),
        ("b", "pending"),
        ("a", "pending"),
    ]


def test_two_stuck_tasks_of_one_article_set_back_together_become_one(psql, add, poller, another):
    add("a")
    poller.claim()
    psql("UPDATE articles SET content = 'new'")
    another().claim()

    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'processing'")

    assert psql("SELECT status, count(*) FROM embedding_tasks GROUP BY 1 ORDER BY 1") == [("cancelled", 1), ("pending", 1)]
    (task,) = poller.claim()
    assert task.content == "new"


@pytest.mark.parametrize("ended", ["failed", "cancelled", "skipped", "completed"])
def test_whatever_has_ended_can_be_set_to_pending_and_has_its_retries_again(psql, add, poller, ended):
    add("a")
    (task,) = poller.claim()
    psql("UPDATE embedding_tasks SET attempts = 4 WHERE id = %s", task.id)
    psql("UPDATE embedding_tasks SET status = %s", ended)

    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL")
    (again,) = poller.claim()

    assert (again.attempts, again.claim) == (0, 2)
    assert psql("SELECT attempts, completed_at FROM embedding_tasks") == [(4, None)]


def test_all_tasks_can_be_deleted_and_the_promises_are_made_anew(psql, add, poller, store):
    add("a", "b", "done")
    tasks = {task.article_id: task for task in poller.claim(3)}
    poller.settle_done(tasks["done"])

    psql("DELETE FROM embedding_tasks")
    made = store.care.reconcile()["made"]

    assert made == 2
    assert sorted(task.article_id for task in poller.claim()) == ["a", "b"]


@pytest.mark.parametrize("statement", ["attempts = 0", "attempts = 1, status = 'pending', processed_at = NULL"])
def test_attempts_never_go_down(psql, add, poller, statement):
    add("a")
    poller.claim()
    psql("UPDATE embedding_tasks SET attempts = 3")

    psql(f"UPDATE embedding_tasks SET {statement}")

    assert psql("SELECT attempts FROM embedding_tasks") == [(3,)]


@pytest.mark.parametrize("from_status", ["pending", "failed"])
def test_nobody_but_a_claim_can_set_a_task_to_processing(psql, add, from_status):
    add("a")
    psql("UPDATE embedding_tasks SET status = %s", from_status)

    with pytest.raises(psycopg.errors.CheckViolation, match="only_a_claim_makes_a_task_processing"):
        psql("UPDATE embedding_tasks SET status = 'processing', processed_at = now()")


def test_an_unknown_status_or_priority_is_refused(psql, add):
    add("a")

    for wrong in ("status = 'done'", "priority = 'asap'"):
        with pytest.raises(psycopg.errors.CheckViolation):
            psql(f"UPDATE embedding_tasks SET {wrong}")


def test_a_task_inserted_by_hand_is_claimed_like_any_other(psql, add, poller):
    add("a")
    psql("DELETE FROM embedding_tasks")

    psql("INSERT INTO embedding_tasks (article_id, model_id) SELECT 'a', model_id FROM embedding_active_model")

    (task,) = poller.claim()
    assert (task.article_id, task.content, task.version) == ("a", "some text", 1)


def test_a_completed_task_of_a_stale_article_set_by_hand_is_found_by_reconcile(psql, add, store, poller):
    add("a")
    psql("UPDATE embedding_tasks SET status = 'completed'")

    assert store.care.verify()["missing"] == 1
    assert store.care.reconcile()["made"] == 1
    assert len(poller.claim()) == 1


@pytest.fixture
def two_failed(psql, add, poller):
    """One article with two failed tasks, one for each of its texts."""
    add("x", text="one")
    poller.settle(*(refused(task) for task in poller.claim()))
    psql("UPDATE articles SET content = 'two'")
    poller.settle(*(refused(task) for task in poller.claim()))


def refused(task):
    return Outcome(task, TaskStatus.FAILED, charged=True, error_class="InputRefused", message="refused")


@pytest.mark.parametrize("order", ["", " AND id = (SELECT max(id) FROM embedding_tasks)"])
def test_of_two_failed_tasks_of_an_article_the_newer_waits_again(psql, two_failed, poller, order):
    psql(f"UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'failed'{order}")
    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'failed'")

    assert psql("SELECT status, version FROM embedding_tasks WHERE status = 'pending'") == [("pending", 2)]
    assert psql("SELECT id FROM embedding_tasks WHERE status = 'pending'") == psql("SELECT max(id) FROM embedding_tasks")
    assert psql("SELECT embedding_status FROM articles") == [("queued",)]
    (task,) = poller.claim()
    assert psql("SELECT embedding_status FROM articles") == [("processing",)]
    poller.settle(refused(task))
    assert psql("SELECT embedding_status FROM articles") == [("failed",)]


@pytest.mark.parametrize("also", ["processed_at = NULL", "lease_holder = NULL", "lease_holder = NULL, processed_at = NULL"])
def test_a_task_in_flight_can_be_set_to_pending_in_each_way_beside_its_successor(psql, add, poller, state, also):
    add("x", text="one")
    poller.claim()
    psql("UPDATE articles SET content = 'two'")

    psql(f"UPDATE embedding_tasks SET status = 'pending', {also} WHERE status = 'processing'")

    assert [status for status, _ in state("x")] == ["cancelled", "pending"]
    assert psql("SELECT embedding_status FROM articles") == [("queued",)]


def test_two_tasks_in_flight_of_one_article_set_to_pending_leave_the_newer(psql, add, poller, another, state):
    add("x", text="one")
    poller.claim()
    psql("UPDATE articles SET content = 'two'")
    another().claim()

    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'processing'")

    assert [status for status, _ in state("x")] == ["cancelled", "pending"]


def test_a_task_set_to_pending_beside_an_edit_under_way_waits_for_it_and_gives_way(psql, two_failed, session):
    by_hand, editing = session(), session()
    editing.do("UPDATE articles SET content = 'three'")
    changed = by_hand.begin("UPDATE embedding_tasks SET status = 'pending' WHERE version = 2")
    by_hand.until_it_waits()

    editing.commit()
    changed.result(10)
    by_hand.commit()

    assert psql("SELECT status, version FROM embedding_tasks ORDER BY id")[1:] == [("cancelled", 3), ("pending", 3)]


def test_a_text_that_another_trigger_derives_is_an_edit_all_the_same(psql, poller):
    psql(
        "CREATE FUNCTION derive() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.content := coalesce(NEW.metadata->>'body', NEW.content); RETURN NEW; END$$"
    )
    psql("CREATE TRIGGER keep_body BEFORE INSERT OR UPDATE ON article_texts FOR EACH ROW EXECUTE FUNCTION derive()")
    psql("""INSERT INTO articles (id, metadata) VALUES ('x', '{"body": "one"}')""")
    poller.settle_done(*poller.claim())

    psql("""UPDATE articles SET metadata = '{"body": "two"}'""")

    assert psql("SELECT content, version, embedding_status FROM articles") == [("two", 2, "queued")]
    assert psql("SELECT version_number, content FROM article_versions") == [(1, "one")]
