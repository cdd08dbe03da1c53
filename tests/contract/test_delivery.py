"""What both deliveries promise while everything else is well, Celery on either broker."""

from __future__ import annotations

import pytest

from tests.support import until

from .conftest import ON_RABBITMQ

EVERY = ["celery", "poller", pytest.param(ON_RABBITMQ, marks=pytest.mark.rabbitmq)]
OPEN_SINCE = """SELECT pid, application_name, xact_start, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < %s"""
pytestmark = pytest.mark.parametrize("place", EVERY, indirect=True, scope="module")


def test_what_is_written_is_embedded(delivery):
    texts = {f"a{number}": f"text {number}" for number in range(25)}

    delivery.add(texts)

    assert delivery.until_idle() == {"completed": 25}
    stored = delivery.stored()
    assert stored.keys() == texts.keys()
    for article, text in texts.items():
        assert stored[article] == pytest.approx(delivery.standin.vector(text).tolist(), abs=1e-6)
    assert delivery.standin.stats()["paid_twice"] == 0


def test_an_edit_during_embedding_leaves_the_newest_text_embedded(delivery):
    with delivery.standin.held():
        delivery.add({"a": "old text"})
        delivery.standin.wait_until_held()
        delivery.sql("UPDATE articles SET content = 'new text'")

    delivery.until_idle()

    assert delivery.stored()["a"] == pytest.approx(delivery.standin.vector("new text").tolist(), abs=1e-6)
    assert delivery.sql("SELECT embedding_status FROM articles") == [("ready",)]


def test_an_edit_of_what_the_other_deliverys_waiting_task_promised_is_embedded_once(delivery):
    delivery.sql("UPDATE embedding_worker_status SET is_running = false")
    delivery.add({"a": "first"})
    delivery.sql("UPDATE articles SET content = 'second'")

    delivery.sql("UPDATE embedding_worker_status SET is_running = true")

    assert delivery.until_idle() == {"completed": 1}
    assert delivery.standin.texts() == {"second": 1}


def test_a_delete_during_embedding_leaves_no_vectors(delivery):
    with delivery.standin.held():
        delivery.add({"a": "text"})
        delivery.standin.wait_until_held()
        delivery.sql("DELETE FROM articles")

    until(lambda: delivery.standin.stats()["paid_inputs"] == 1, why=delivery.story)
    delivery.add({"later": "settled after the late one"})

    assert delivery.until_idle() == {"cancelled": 1, "completed": 1}
    assert list(delivery.stored()) == ["later"]


def test_no_transaction_is_open_while_the_provider_is_asked(delivery):
    with delivery.standin.held():
        delivery.add({"a": "text"})
        delivery.standin.wait_until_held()
        [(asked_at,)] = delivery.sql("SELECT clock_timestamp()")

        # A heartbeat or a poll begins a transaction now and then; one that was open when the request was sent would stay open.
        until(lambda: not delivery.sql(OPEN_SINCE, asked_at), timeout_s=5.0, why=delivery.story)

    assert delivery.until_idle() == {"completed": 1}


def test_nothing_is_claimed_while_is_running_is_off_and_work_goes_on_when_it_is_on_again(delivery):
    delivery.sql("UPDATE embedding_worker_status SET is_running = false")
    delivery.add({"a": "text", "b": "other text"})
    delivery.sql("SELECT pg_sleep(0.6)")  # three polls, and a dispatch
    before = (delivery.states(), delivery.standin.stats()["requests"])

    delivery.sql(
        "INSERT INTO embedding_worker_status (id, is_running) VALUES (1, true) ON CONFLICT (id) DO UPDATE SET is_running = true"
    )

    assert before == ({"pending": 2}, 0)
    assert delivery.until_idle() == {"completed": 2}


def test_an_empty_text_is_skipped_and_says_why(delivery):
    delivery.add({"empty": "", "blank": " \n\t ", "full": "text"})

    assert delivery.until_idle() == {"skipped": 2, "completed": 1}
    assert delivery.sql("SELECT DISTINCT error_message FROM embedding_tasks WHERE status = 'skipped'") == [
        ("the article has no text",)
    ]
    assert delivery.sql("SELECT id, embedding_status FROM articles ORDER BY 1") == [
        ("blank", "skipped"),
        ("empty", "skipped"),
        ("full", "ready"),
    ]


def test_a_text_that_is_stored_already_is_not_bought_again(delivery):
    delivery.add({"a": "text"})
    delivery.until_idle()

    delivery.sql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL")
    delivery.until_idle()

    assert delivery.standin.texts() == {"text": 1}


def test_a_task_set_back_by_hand_during_embedding_is_settled_once(delivery):
    with delivery.standin.held():
        delivery.add({"a": "text"})
        delivery.standin.wait_until_held()
        delivery.sql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'processing'")
        delivery.standin.wait_until_held(2)

    assert delivery.until_idle() == {"completed": 1}
    assert delivery.sql("SELECT claims, attempts FROM embedding_tasks") == [(2, 1)]


def test_a_long_text_is_embedded_in_chunks(delivery):
    words = " ".join(f"word{number}" for number in range(6000))

    delivery.add({"long": words})

    assert delivery.until_idle() == {"completed": 1}
    ((chunks, rows),) = delivery.sql("SELECT chunks, (SELECT count(*) FROM embedding_vectors) FROM embeddings")
    assert chunks == rows > 2
