"""A worker that is reserved for some priorities takes these and leaves the rest."""

from __future__ import annotations

from tests.support import run_command, start_poller, until


def test_a_reserved_poller_takes_its_priorities_alone_in_every_mode_in_which_it_works(environment, psql):
    reserved = start_poller(environment, queues=("urgent", "high"))
    try:
        for mode in ("database", "hybrid"):
            psql(f"UPDATE embedding_worker_status SET mode = '{mode}', dispatch_held = true")
            for priority in ("low", "urgent", "normal", "high"):
                psql("SELECT set_config('embedq.priority', %s, false)", priority)
                psql("INSERT INTO articles (id, title) VALUES (%s, 'text')", f"{mode} {priority}")
            # In mode hybrid these are late: any poller may take them from the broker.
            psql(
                "UPDATE embedding_tasks SET dispatched_at = now() - interval '1 hour' WHERE status = 'pending' AND %s = 'hybrid'",
                mode,
            )

            until(lambda: psql("SELECT count(*) FROM embeddings WHERE article_id LIKE %s", mode + " %") == [(2,)], 20)  # noqa: B023

            left = psql(
                "SELECT priority FROM embedding_tasks WHERE status = 'pending' AND article_id LIKE %s ORDER BY 1", mode + " %"
            )
            assert left == [("low",), ("normal",)]
        psql("UPDATE embedding_worker_status SET mode = 'database'")
        assert "no poller takes the priority low; 2 tasks" in run_command(environment, "health").stdout
    finally:
        reserved.kill()


def test_a_priority_that_does_not_exist_is_refused(environment):
    refused = run_command(environment, "poller", "-Q", "urgent,hgih")

    assert refused.returncode == 2
    assert "urgent, high, normal, low" in refused.stderr
