"""The loop: chores of a steward that was woken wait for urgent batches of its process."""

from __future__ import annotations

import threading

from embedq import wiring
from tests.support import until


def test_a_steward_that_is_rung_lets_what_is_urgent_go_first(psql, settings):
    psql("INSERT INTO articles (id, title) VALUES ('a', 'text')")
    parts = wiring.worker_parts(settings, "celery")
    asked, go = threading.Event(), threading.Event()
    parts.steward.give_way = lambda for_s: (asked.set(), go.wait(10))
    parts.worker.ring()
    thread = parts.steward.start()

    assert asked.wait(10)
    assert psql("SELECT dispatched_at FROM embedding_tasks") == [(None,)]
    go.set()

    until(lambda: psql("SELECT dispatched_at FROM embedding_tasks") != [(None,)])
    parts.worker.stopping.set()
    parts.worker.ring()
    thread.join(10)
    parts.close()
