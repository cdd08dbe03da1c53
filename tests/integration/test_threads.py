"""No outage and no exception ends the threads that a worker needs; what fails again and again is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from embedq import threads
from embedq.engine.worker import Worker
from embedq.operations.status import glance
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.support import free_port, start_poller, until

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def with_two_hosts(url: str) -> str:
    """The first host is another server's port, where none listens."""
    begin, _, rest = url.partition("@")
    return f"{begin}@127.0.0.1:{free_port()},{rest}?target_session_attrs=read-write"


@pytest.fixture
def connections(servers, database_url) -> Callable[[bool], None]:
    """Lets nobody connect to the database any more, and everybody again."""

    def allow(allowed: bool) -> None:
        with psycopg.connect(servers.database_url, autocommit=True) as elsewhere:
            elsewhere.execute(f"ALTER DATABASE {database_url.rsplit('/', 1)[1]} ALLOW_CONNECTIONS {allowed}")

    return allow


def test_a_worker_whose_address_is_a_list_of_hosts_outlives_an_outage(environment, database_url, psql, connections):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(environment | {"DATABASE_URL": with_two_hosts(database_url)}) as poller:
        until(
            lambda: psql("SELECT count(*) FROM embedding_workers WHERE steward_since IS NOT NULL") == [(1,)], why=poller.output
        )
        connections(False)
        psql(OTHERS)
        for thread in ("embedq-heartbeat", "embedq-listen", "embedq-steward", "embedq-express", "embedq-poller-0"):
            poller.says(f"{thread} goes on after a failure")
        connections(True)

        psql("INSERT INTO articles (id, content) VALUES ('a', 'one')")

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=poller.output)
        until(lambda: psql(LISTENING) == [(1,)], why=poller.output)
        before = psql("SELECT max(seen_at) FROM embedding_workers")
        until(lambda: psql("SELECT max(seen_at) FROM embedding_workers") > before, why=poller.output)
        until(
            lambda: psql("SELECT count(*) FROM embedding_workers WHERE steward_since IS NOT NULL") == [(1,)], why=poller.output
        )
        assert "Traceback" not in poller.output()


LISTENING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'embedq poller listen'"
)


@pytest.fixture
def worker(database_url, monkeypatch):
    monkeypatch.setattr(threads, "PAUSE_S", 0.01)
    made = Worker(Store(Database(database_url)), "poller")
    made.start()
    yield made
    made.stop()


def test_health_names_a_thread_that_fails_again_and_again(worker, store, environment):
    settings = from_env(environment)
    well = glance(store, settings).facts.failing
    ended = threading.Event()
    failing = worker.lasting("embedq-something", ended)
    failing.start(lambda: 1 / 0)
    until(lambda: failing.fails, why="it does not fail")

    worker.beat()
    seen = glance(store, settings)
    ended.set()

    assert well == []
    assert len(seen.facts.failing) == 1
    assert "embedq-something (" in seen.facts.failing[0]
    assert any("embedq-something" in finding.what for finding in seen.found)


def test_a_worker_that_was_declared_dead_registers_anew_and_goes_on(worker, psql):
    first = worker.id
    psql("DELETE FROM embedding_workers")

    until(lambda: worker.id != first, why="it did not register anew")

    assert psql("SELECT id FROM embedding_workers") == [(worker.id,)]


def test_a_worker_whose_live_row_is_gone_stays_who_it_is(worker, psql):
    first = worker.id
    psql("DELETE FROM embedding_worker_status")

    worker.beat()

    assert worker.id == first
    assert psql("SELECT id, mode_seen FROM embedding_workers") == [(first, None)]


def test_a_chore_that_fails_keeps_no_other_chore_of_the_steward_from_its_turn(worker, settings, environment, redis_url):
    from embedq.broker import broker_at
    from embedq.steward.steward import Steward

    steward = Steward(worker.store, broker_at(redis_url), worker, settings)
    done = []
    for chore in steward.timetable.chores:
        chore.do = lambda chore=chore: done.append(chore.name) if chore.name != "dispatch" else 1 / 0

    steward.timetable.tick()

    assert done == [chore.name for chore in steward.timetable.chores if chore.name != "dispatch"]
