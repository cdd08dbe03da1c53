"""Workers that are asked to stop, are killed, or lose their servers: nothing is lost, nobody is charged, it goes on by itself."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys

import psycopg
import pytest
import redis

from tests.support import ROOT, env, until


def texts(count):
    return {f"a{number:02}": f"text {number}" for number in range(count)}


def until_idle_after_being_away(delivery, timeout_s=40.0):
    """Like `until_idle`, while PostgreSQL may still refuse connections."""

    def idle():
        try:
            return not delivery.states().keys() & {"pending", "processing"}
        except psycopg.OperationalError:
            return False

    until(idle, timeout_s, delivery.story)
    return delivery.states()


def test_a_worker_that_is_asked_to_stop_settles_what_it_has_sent(fresh):
    worker = fresh.start(EMBEDDING_BATCH_SIZE="5", EMBEDDING_CONCURRENT_WORKERS="1")
    with fresh.standin.held():
        fresh.add(texts(20))
        fresh.standin.wait_until_held()
        worker.signal(signal.SIGTERM)
        until(lambda: "stops" in worker.output() or "Warm shutdown" in worker.output(), why=worker.output)

    until(lambda: not worker.runs, 20, worker.output)

    states = fresh.states()
    assert worker.exit_code == 0
    assert states.keys() == {"completed", "pending"}
    assert len(fresh.stored()) == states["completed"] == fresh.standin.stats()["paid_inputs"]
    assert fresh.sql("SELECT max(attempts) FROM embedding_tasks WHERE status = 'pending'") == [(0,)]
    assert fresh.sql("SELECT count(*) FROM embedding_workers") == [(0,)]


def test_a_worker_that_is_asked_to_stop_settles_what_is_urgent_as_well(fresh):
    one = None if fresh.name == "poller" else 1
    worker = fresh.start(EMBEDDING_BATCH_SIZE="1", EMBEDDING_CONCURRENT_WORKERS="1", concurrency=one)
    fresh.standin.control(latency_ms=1_500)
    fresh.add({"slow": "one that keeps the only thread busy"})
    until(lambda: fresh.standin.stats()["concurrent"] == 1, 15, fresh.story)
    fresh.standin.control(latency_ms=4_000)
    fresh.sql("SELECT set_config('embedq.priority', 'urgent', false)")
    fresh.add({"urgent": "what the thread for the urgent has in hand"})
    until(lambda: fresh.standin.stats()["concurrent"] == 2, 15, fresh.story)

    worker.signal(signal.SIGTERM)
    until(lambda: not worker.runs, 20, worker.output)

    assert fresh.states() == {"completed": 2}
    assert fresh.sql("SELECT max(lost_leases) FROM embedding_tasks") == [(0,)]


def test_hup_ends_a_poller_as_term_does(fresh):
    if fresh.name != "poller":
        pytest.skip("a Celery worker starts itself anew: test_ends")
    worker = fresh.start()
    with fresh.standin.held():
        fresh.add({"a": "text"})
        fresh.standin.wait_until_held(1, 40.0)
        worker.signal(signal.SIGHUP)
        worker.says("stops")

    until(lambda: not worker.runs, 20, worker.output)
    assert (worker.exit_code, fresh.states()) == (0, {"completed": 1})
    assert fresh.sql("SELECT count(*) FROM embedding_workers") == [(0,)]


def test_a_worker_ends_also_when_another_thread_than_the_first_gets_the_signal(fresh):
    """As the kernel may choose when the process was stopped (SIGSTOP) meanwhile."""
    worker = fresh.start()
    other = next(thread for thread in map(int, os.listdir(f"/proc/{worker.pid}/task")) if thread != worker.pid)

    assert ctypes.CDLL(None).tgkill(worker.pid, other, signal.SIGTERM) == 0

    until(lambda: not worker.runs, 20, worker.output)
    assert worker.exit_code == 0, worker.output()


def test_a_poller_whose_provider_hangs_ends_within_its_bound_and_hands_back_what_it_held(fresh):
    if fresh.name != "poller":
        pytest.skip("the same of a Celery worker: test_ends")
    worker = fresh.start(EMBEDDING_STOP_TIMEOUT="2000")
    with fresh.standin.held():
        fresh.add(texts(3))
        fresh.standin.wait_until_held(1, 40.0)
        worker.signal(signal.SIGTERM)
        alive = "SELECT count(*) FROM embedding_workers WHERE ending_since IS NULL"
        until(lambda: fresh.sql(alive) == [(0,)], 10, worker.output)
        until(lambda: not worker.runs, 15, worker.output)

    assert fresh.states() == {"pending": 3}
    assert fresh.sql("SELECT max(attempts), max(lost_leases) FROM embedding_tasks") == [(0, 0)]


def test_a_celery_worker_whose_output_nobody_reads_any_more_ends_when_it_is_asked_to(fresh):
    if fresh.name == "poller":
        pytest.skip("of Celery's own end")
    argv = [sys.executable, "-m", "celery", "-A", "embedq", "worker", "--pool", "threads", "-n", "unheard@%h"]
    with subprocess.Popen(
        argv, env=env(fresh.environment), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as worker:
        try:
            until(lambda: fresh.sql("SELECT 1 FROM embedding_workers WHERE name = %s", f"unheard@{socket.gethostname()}"), 60)
            assert worker.stdout is not None
            worker.stdout.close()

            worker.terminate()

            assert worker.wait(20) == 0
        finally:
            worker.kill()


def test_a_worker_that_is_asked_to_stop_hands_back_what_it_has_not_sent_uncharged(fresh):
    fresh.standin.control(markers={"poison": "refuse"})
    worker = fresh.start(EMBEDDING_CONCURRENT_WORKERS="1")
    with fresh.standin.held():
        fresh.sql("UPDATE embedding_worker_status SET is_running = false")
        fresh.add(texts(8) | {"bad": "poison"})
        fresh.sql("UPDATE embedding_worker_status SET is_running = true")
        fresh.standin.wait_until_held()
        worker.signal(signal.SIGTERM)
        until(lambda: "stops" in worker.output() or "Warm shutdown" in worker.output(), why=worker.output)

    until(lambda: not worker.runs, 20, worker.output)

    assert fresh.states() == {"pending": 9}
    assert fresh.sql("SELECT DISTINCT attempts, scheduled_at <= clock_timestamp() FROM embedding_tasks") == [(0, True)]
    fresh.start()
    assert fresh.until_idle() == {"completed": 8, "failed": 1}


def test_a_worker_that_stops_keeps_its_lease_until_what_it_has_sent_is_settled(fresh):
    worker = fresh.start()
    with fresh.standin.held():
        fresh.add({"a": "text"})
        fresh.standin.wait_until_held()
        worker.signal(signal.SIGTERM)
        fresh.sql("UPDATE embedding_workers SET alive_until = clock_timestamp() + interval '1 s'")
        until(
            lambda: fresh.sql("SELECT alive_until > clock_timestamp() + interval '5 s' FROM embedding_workers") == [(True,)],
            why="its heart stopped when it was asked to stop",
        )

    until(lambda: not worker.runs, 20, worker.output)
    assert fresh.states() == {"completed": 1}


def test_a_worker_that_is_killed_in_mid_batch_loses_nothing(fresh):
    worker = fresh.start()
    with fresh.standin.held():
        fresh.add(texts(20))
        fresh.standin.wait_until_held()
        worker.kill()
    held = fresh.states()["processing"]

    fresh.start()

    assert fresh.until_idle(40) == {"completed": 20}
    assert held > 0
    assert fresh.sql("SELECT DISTINCT attempts FROM embedding_tasks") == [(1,)]
    assert fresh.sql("SELECT count(*) FROM embedding_tasks WHERE errors->0->>'class' = 'WorkerLost'") == [(held,)]
    assert len(fresh.stored()) == 20


def test_a_sleeping_worker_is_woken_by_the_write(fresh):
    fresh.start(EMBEDDING_WORKER_INTERVAL="60000")
    until(lambda: fresh.sql("SELECT count(*) FROM embedding_workers WHERE asleep_until > clock_timestamp()") == [(1,)])

    for number in range(3):
        fresh.add({f"a{number}": f"text {number}"})
        assert fresh.until_idle(10) == {"completed": number + 1}


def test_a_task_whose_short_wait_ends_is_not_left_until_the_next_poll(fresh):
    fresh.standin.control(markers={"bomb": "break"})
    fresh.start(EMBEDDING_WORKER_INTERVAL="60000")

    fresh.add({"a": "bomb"})

    assert fresh.until_idle(20) == {"failed": 1}


def test_an_answer_that_comes_while_postgresql_is_away_is_stored_when_it_is_back(on_own_servers, own_servers):
    delivery = on_own_servers
    delivery.start()
    with delivery.standin.held():
        delivery.add(texts(20))
        delivery.standin.wait_until_held()
        own_servers.postgres.stop()
    until(lambda: delivery.standin.stats()["held"] == 0)

    own_servers.postgres.start()

    assert until_idle_after_being_away(delivery) == {"completed": 20}
    assert delivery.standin.stats()["paid_twice"] == 0
    assert delivery.sql("SELECT max(lost_leases) FROM embedding_tasks") == [(0,)]
    delivery.add({"later": "written afterwards"})
    assert delivery.until_idle() == {"completed": 21}


@pytest.mark.parametrize("how", ["restart", "flushall"])
def test_a_broker_that_forgets_everything_costs_nothing_but_a_moment(on_own_servers, own_servers, how):
    delivery = on_own_servers
    delivery.start(EMBEDDING_BATCH_SIZE="4", EMBEDDING_CONCURRENT_WORKERS="1")
    with delivery.standin.held():
        delivery.add(texts(60))
        delivery.standin.wait_until_held()
        if delivery.name == "celery":
            until(
                lambda: delivery.sql("SELECT count(*) > 10 FROM embedding_tasks WHERE dispatched_at IS NOT NULL") == [(True,)]
            )
        if how == "restart":
            own_servers.redis.kill()
            own_servers.redis.start()
        else:
            redis.Redis.from_url(own_servers.redis_url).flushall()

    assert delivery.until_idle(40) == {"completed": 60}
    assert delivery.standin.stats()["paid_twice"] == 0
    delivery.add({"later": "written afterwards"})
    assert delivery.until_idle(40) == {"completed": 61}
