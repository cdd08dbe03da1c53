"""Leadership: of many stewards one leads; it is replaced when it dies and when it hangs."""

from __future__ import annotations

import pytest

from tests.support import start_poller, until


@pytest.fixture
def leaders(psql):
    """Pids of the processes whose session holds the steward's lock, by what they registered."""
    return lambda: [
        row[0]
        for row in psql("SELECT pid FROM embedding_workers WHERE steward_since IS NOT NULL AND alive_until > clock_timestamp()")
    ]


@pytest.fixture
def two(environment, psql):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(environment) as one, start_poller(environment) as other:
        yield {one.pid: one, other.pid: other}


def other_than(two, pid):
    return next(number for number in two if number != pid)


def one_leader(leaders):
    return until(lambda: leaders()[0] if len(leaders()) == 1 else None, 30, leaders)


def test_of_two_stewards_only_one_leads(two, leaders, psql):
    first = one_leader(leaders)

    # Both have looked for leadership by then: whoever does not lead asks every two seconds.
    until(lambda: psql("SELECT count(*) FROM embedding_workers WHERE mode_seen_at IS NOT NULL") == [(2,)])

    assert leaders() == [first]
    assert psql(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid IN"
        " (SELECT pid FROM pg_stat_activity WHERE application_name = 'embedq steward')"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ) == [(1,)]
    assert len(two) == 2


def test_a_leader_that_is_killed_is_replaced(two, leaders):
    first = one_leader(leaders)

    two[first].kill()

    until(lambda: other_than(two, first) in leaders(), 10, leaders)


def test_a_leader_that_leaves_in_order_is_replaced(two, leaders):
    first = one_leader(leaders)

    assert two[first].terminate() == 0

    until(lambda: leaders() == [other_than(two, first)], 10, leaders)


def test_a_leader_that_stands_still_is_replaced_and_steps_down_when_it_goes_on(two, leaders, psql):
    first = one_leader(leaders)
    second = other_than(two, first)

    stand_still(two[first], psql)
    until(lambda: leaders() == [second], 40, leaders)
    two[first].go_on()

    until(lambda: psql("SELECT count(*) FROM embedding_workers WHERE alive_until > clock_timestamp()") == [(2,)], 15)
    until(lambda: leaders() == [second], 15, leaders)
    # The one that led before must not pass for a living leader now.
    stand_still(two[second], psql)
    until(lambda: leaders() == [first], 40, leaders)


def stand_still(process, psql):
    """Stopped, not ended; its lease is cut short instead of waited for."""
    process.stop_still()
    psql("UPDATE embedding_workers SET alive_until = clock_timestamp() WHERE pid = %s", process.pid)


def test_the_leader_does_the_chores(two, leaders, psql):
    one_leader(leaders)
    psql("SET embedq.mode = 'off'")
    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    psql(
        "INSERT INTO embedding_tasks (article_id, model_id, status, lease_holder, claims, processed_at)"
        " SELECT 'a', model_id, 'processing', 0, 1, now() FROM embedding_active_model"
    )

    until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why="nobody rescued it")

    assert psql("SELECT category FROM embedding_audit_logs WHERE category = 'rescue'") == [("rescue",)]
