"""A settle changes what is still its own, and nothing else: late results are discarded and counted (G4)."""

from __future__ import annotations

import threading

import psycopg
import pytest

from embedq.engine.outcomes import waiting
from embedq.model import Mode, Outcome, TaskStatus
from tests.integration.conftest import Claimer, done
from tests.support import until


@pytest.fixture
def vector(psql):
    """The first number of an article's stored vector, or None."""

    def first(article="a"):
        rows = psql("SELECT embedding::text FROM embedding_vectors WHERE article_id = %s", article)
        return float(rows[0][0][1:].split(",")[0]) if rows else None

    return first


def test_a_settle_stores_the_vectors_with_the_hash_of_their_text(psql, add, poller, vector):
    add("a", "b")

    settled = poller.settle_done(*poller.claim(), value=2.0)

    assert (set(settled.states.values()), settled.late, vector()) == ({"completed"}, 0, 2.0)
    assert psql(
        "SELECT count(*) FROM embeddings e JOIN article_texts a ON a.id = e.article_id AND a.text_hash = e.text_hash"
    ) == [(2,)]
    assert psql("SELECT DISTINCT status, attempts, lease_holder, dispatched_at FROM embedding_tasks") == [
        ("completed", 1, None, None)
    ]


def rescued(psql, poller, another):
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")
    poller.store.tasks.rescue(300.0)


def rescued_and_claimed_by_another(psql, poller, another):
    rescued(psql, poller, another)
    assert len(another().claim()) == 1


def rescued_and_claimed_again_by_the_same(psql, poller, another):
    psql("UPDATE embedding_tasks SET processed_at = now() - interval '1 hour'")
    poller.store.tasks.rescue(300.0)
    assert len(poller.claim()) == 1


def set_back_by_hand(psql, poller, another):
    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL")


def cancelled_by_hand(psql, poller, another):
    psql("UPDATE embedding_tasks SET status = 'cancelled'")


def task_deleted(psql, poller, another):
    psql("DELETE FROM embedding_tasks")


def article_deleted(psql, poller, another):
    psql("DELETE FROM articles")


def lease_ran_out(psql, poller, another):
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")


def worker_buried(psql, poller, another):
    psql("DELETE FROM embedding_workers")


def handed_over_after_a_switch(psql, poller, another):
    poller.store.status.set_mode(Mode.CELERY, "test", "test")
    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'processing'")


TAKEN_AWAY = [
    rescued,
    rescued_and_claimed_by_another,
    rescued_and_claimed_again_by_the_same,
    set_back_by_hand,
    cancelled_by_hand,
    task_deleted,
    article_deleted,
    lease_ran_out,
    worker_buried,
    handed_over_after_a_switch,
]


@pytest.mark.parametrize("taken_away", TAKEN_AWAY, ids=lambda how: how.__name__)
@pytest.mark.parametrize("ending", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.PENDING])
def test_a_late_settle_changes_nothing_and_is_counted(psql, add, poller, another, vector, taken_away, ending):
    add("a")
    (task,) = poller.claim()
    taken_away(psql, poller, another)
    before = psql("SELECT * FROM embedding_tasks")

    outcome = done(task) if ending is TaskStatus.COMPLETED else Outcome(task, ending, charged=True, message="late")
    settled = poller.settle(outcome)

    assert (settled.states, settled.late) == ({}, 1)
    assert psql("SELECT * FROM embedding_tasks") == before
    assert vector() is None


def test_what_is_late_in_a_batch_does_not_keep_the_rest_from_being_stored(psql, add, poller):
    add("a", "b", "c")
    tasks = poller.claim()
    psql("UPDATE embedding_tasks SET status = 'cancelled' WHERE article_id = 'b'")

    settled = poller.settle_done(*tasks)

    assert (len(settled.states), settled.late) == (2, 1)
    assert psql("SELECT article_id FROM embeddings ORDER BY 1") == [("a",), ("c",)]


def test_vectors_of_older_text_never_replace_those_of_newer(psql, add, poller, another, vector):
    add("a", text="old")
    (slow,) = poller.claim()
    psql("UPDATE articles SET content = 'new'")
    other = another()
    (quick,) = other.claim()
    other.settle_done(quick, value=2.0)

    settled = poller.settle_done(slow, value=1.0)

    assert settled.late == 0
    assert vector() == 2.0
    assert psql("SELECT version FROM embeddings") == [(2,)]
    assert psql("SELECT embedding_status FROM articles") == [("ready",)]


def test_one_vector_that_cannot_be_stored_fails_its_own_task_only(psql, add, poller):
    add("a", "b", "c")
    tasks = {task.article_id: task for task in poller.claim()}

    settled = poller.settle(done(tasks["a"]), done(tasks["b"], dimensions=3), done(tasks["c"]))

    assert (sorted(settled.states.values()), settled.late) == (["completed", "completed", "failed"], 0)
    assert psql("SELECT article_id FROM embedding_vectors ORDER BY 1") == [("a",), ("c",)]
    assert psql(
        "SELECT article_id, error_class, error_message LIKE '%violates check constraint%' FROM embedding_tasks"
        " WHERE status = 'failed'"
    ) == [("b", "Unstorable", True)]


def test_a_delete_that_comes_during_a_settle_waits_and_leaves_no_vectors(psql, add, poller, session):
    add("a")
    (task,) = poller.claim()
    settling = session()
    settling.do("SELECT id FROM embedding_tasks WHERE id = %s FOR UPDATE", task.id)
    settling.do("UPDATE embedding_tasks SET status = 'completed', lease_holder = NULL WHERE id = %s", task.id)
    settling.do(
        "INSERT INTO embeddings (model_id, article_id, version, text_hash, chunks, tokens) VALUES (%s, 'a', 1, 'x', 1, 1)",
        task.model_id,
    )
    deleting = session()
    deleted = deleting.begin("DELETE FROM articles")
    deleting.until_it_waits()

    settling.commit()
    deleted.result(10)
    deleting.commit()

    assert psql("SELECT count(*) FROM embeddings") == psql("SELECT count(*) FROM articles") == [(0,)]


def test_a_settle_that_comes_during_a_delete_waits_and_stores_no_vectors(psql, add, poller, session, in_thread):
    add("a", "b")
    tasks = poller.claim()
    deleting = session()
    deleting.do("DELETE FROM articles WHERE id = 'a'")
    settling = in_thread(poller.settle_done, *tasks)
    until(lambda: psql("SELECT article_id FROM embeddings") == [("b",)], why="the settle waited with what nobody deletes")

    deleting.commit()
    settled = settling.result(10)

    assert (len(settled.states), settled.late) == (1, 1)
    assert psql("SELECT article_id FROM embeddings") == psql("SELECT article_id FROM embedding_vectors") == [("b",)]


def test_a_settle_that_comes_during_a_delete_which_is_rolled_back_stores_the_vectors(psql, add, poller, session, in_thread):
    add("a", "b")
    tasks = poller.claim()
    deleting = session()
    deleting.do("DELETE FROM articles WHERE id = 'a'")
    settling = in_thread(poller.settle_done, *tasks)
    until(lambda: psql("SELECT article_id FROM embeddings") == [("b",)], why="the settle waited with what nobody deletes")

    deleting.connection.rollback()

    assert settling.result(10).late == 0
    assert psql("SELECT article_id FROM embeddings ORDER BY 1") == [("a",), ("b",)]


def test_a_wait_gives_way_to_a_successor_that_is_made_at_that_moment(psql, add, poller, session, in_thread):
    add("a", "b")
    tasks = poller.claim()
    editing = session()
    editing.do("UPDATE articles SET content = 'new' WHERE id = 'a'")
    settling = in_thread(poller.settle, *(waiting(task, 5.0, "busy") for task in tasks))
    until(
        lambda: psql("SELECT status FROM embedding_tasks WHERE article_id = 'b'") == [("pending",)],
        why="the settle waited for the edit",
    )

    editing.commit()
    settled = settling.result(10)

    assert (sorted(settled.states.values()), settled.late) == (["cancelled", "pending"], 0)
    assert psql("SELECT article_id, status, version FROM embedding_tasks ORDER BY id") == [
        ("a", "cancelled", 1),
        ("b", "pending", 1),
        ("a", "pending", 2),
    ]


def test_a_rescue_gives_way_to_a_successor_that_is_made_at_that_moment(psql, add, poller, session):
    add("a", "b")
    poller.claim()
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")
    editing = session()
    editing.do("UPDATE articles SET content = 'new' WHERE id = 'a'")

    during = poller.store.tasks.rescue(300.0)
    editing.commit()
    after = poller.store.tasks.rescue(300.0)

    assert ([row["status"] for row in during], [row["status"] for row in after]) == (["pending"], ["cancelled"])


def test_edits_deletes_and_settles_under_load_meet_no_deadlock_and_leave_everything_right(
    psql, add, store, poller, database_url
):
    names = [f"a{number:02}" for number in range(24)]
    add(*names)
    over, met = threading.Event(), []

    def guarded(act):
        def run():
            turn = 0
            while not over.is_set():
                turn += 1
                try:
                    act(turn)
                except Exception as error:
                    met.append(error)
                    return

        return run

    def writing(statement, count):
        connection = psycopg.connect(database_url, autocommit=True)

        def act(turn):
            chosen = [names[(turn * 7 + place * 5) % len(names)] for place in range(count)]
            connection.execute(statement, {"ids": chosen, "text": f"text {turn}"})

        return act

    def working(claimer, wait):
        def act(turn):
            tasks = claimer.claim(10)
            claimer.settle(*(waiting(task, 0.0, "busy") if wait and turn % 3 else done(task) for task in tasks))

        return act

    edit = "UPDATE articles SET content = %(text)s WHERE id IN (SELECT id FROM article_texts WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE)"
    delete = "DELETE FROM articles WHERE id IN (SELECT id FROM article_texts WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE)"
    insert = "INSERT INTO articles (id, title) SELECT id, %(text)s FROM unnest(%(ids)s::text[]) AS id ORDER BY id ON CONFLICT DO NOTHING"
    acts = [
        writing(edit, 6),
        writing(edit, 3),
        writing(delete, 4),
        writing(insert, 12),
        *(working(Claimer(store, poller.delivery), wait) for wait in (False, True, True)),
    ]
    threads = [threading.Thread(target=guarded(act)) for act in acts]
    for thread in threads:
        thread.start()
    over.wait(4.0)
    over.set()
    for thread in threads:
        thread.join(20)
    while tasks := poller.claim():
        poller.settle_done(*tasks)

    assert met == []
    verified = store.care.verify()
    assert verified["problems"] == []
    assert (verified["stale"], verified["processing"], verified["pending"]) == (0, 0, 0)


def test_a_worker_frozen_in_a_transaction_does_not_hold_a_writer_up_for_ever(store, psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'old')")
    frozen = store.database.connect(name="frozen")
    frozen.execute("BEGIN")
    frozen.execute("SELECT id FROM embedding_tasks FOR UPDATE")

    psql("SET lock_timeout = '20s'")
    psql("UPDATE articles SET content = 'new' WHERE id = 'a'")

    assert psql("SELECT version FROM embedding_tasks WHERE article_id = 'a'") == [(2,)]
    frozen.close()
