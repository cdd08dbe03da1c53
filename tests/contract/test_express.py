"""What is urgent does not wait until a thread is free: each worker has one more for it."""

from __future__ import annotations

import threading

import pytest

from embedq import wiring
from embedq.engine import engine
from embedq.engine.runs import NextDue
from embedq.engine.urgent_lane import is_wanted
from tests.support import until


@pytest.mark.parametrize("queues", [["urgent", "high", "normal", "low"], ["urgent", "low"]], ids=",".join)
def test_a_worker_that_takes_more_than_the_urgent_has_a_thread_for_it(queues):
    assert is_wanted(queues)


@pytest.mark.parametrize("queues", [["urgent"], ["urgent", "high"], ["high", "normal"], ["low"]], ids=",".join)
def test_a_reserved_worker_and_one_that_takes_nothing_urgent_have_none(queues):
    assert not is_wanted(queues)


def test_an_urgent_article_is_embedded_while_every_thread_has_a_request_that_takes_long(fresh):
    fresh.standin.control(latency_ms=20_000)
    fresh.start(EMBEDDING_BATCH_SIZE="1", EMBEDDING_CONCURRENT_WORKERS="2")
    fresh.add({"slow": "one", "slower": "two"})
    until(lambda: fresh.standin.stats()["concurrent"] == 2, 15, fresh.story)
    fresh.standin.control(latency_ms=0)

    fresh.sql("SELECT set_config('embedq.priority', 'urgent', false)")
    fresh.add({"urgent": "what somebody waits for"})

    until(lambda: fresh.sql("SELECT 1 FROM embeddings WHERE article_id = 'urgent'"), 8, fresh.story)
    assert fresh.sql("SELECT count(*) FROM embedding_tasks WHERE status = 'processing'") == [(2,)]
    assert fresh.standin.stats()["paid_twice"] == 0


def test_a_batch_is_not_stored_while_something_urgent_is_in_hand(psql, settings, monkeypatch):
    monkeypatch.setattr(engine, "STORE_GIVES_WAY_S", 60.0)
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title) VALUES ('low', 'what can wait')")
    parts = wiring.worker_parts(settings, "poller")
    parts.worker.start()
    batch = threading.Thread(target=parts.engine.run, args=(NextDue(),), daemon=True)

    with parts.engine.gate.hurry():
        batch.start()
        until(lambda: parts.worker.counters["requests"] == 1)
        batch.join(0.5)
        assert psql("SELECT status FROM embedding_tasks") == [("processing",)]
    batch.join(5)

    assert psql("SELECT status FROM embedding_tasks") == [("completed",)]
    parts.close()
