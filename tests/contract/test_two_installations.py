"""Staging and production on one Redis: noticed at once by both, and said."""

from __future__ import annotations

import pytest
import redis

from embedq.broker import broker_at
from embedq.broker.peek import peek
from embedq.model import Priority
from embedq.store import Store
from embedq.store.database import Database
from tests.conftest import fresh_database
from tests.contract.test_brokers import server
from tests.support import run_command, start_celery, until


@pytest.fixture
def another(servers, template, environment):
    with fresh_database(servers, template) as url:
        yield environment | {"DATABASE_URL": url}


def test_two_workers_of_two_databases_on_one_redis_are_told_by_health_and_logs(environment, another):
    with start_celery(environment) as here, start_celery(another) as there:
        until(lambda: "another installation" in here.output() + there.output(), 60, here.output)

        for ours in (environment, another):
            until(lambda ours=ours: "several installations" in run_command(ours, "health").stdout, 60)


def test_two_workers_of_one_installation_are_no_neighbours(redis_url, database_url):
    one, other = Store(Database(database_url)), Store(Database(database_url))
    broker = broker_at(redis_url)

    for store in (one, other):
        its = store.watch.installation()
        assert broker.announce(its["identity"], its["name"]) == []
        store.close()

    assert list(peek(redis_url).states) == []
    broker.close()


def test_databases_of_one_redis_are_apart(redis_url):
    zero, one = broker_at(redis_url), broker_at(redis_url[:-1] + "1")
    one.redis.flushdb()

    assert (zero.announce("a", "A"), one.announce("b", "B"), zero.announce("c", "C")) == ([], [], ["A"])
    for broker in (zero, one):
        broker.redis.flushdb()
        broker.close()


def test_a_user_who_may_not_leave_a_name_publishes_all_the_same(tmp_path):
    with server(tmp_path) as port:
        redis.Redis(port=port).execute_command("ACL", "SETUSER", "narrow", "on", ">of-the-tests", "~*", "&*", "+@all", "-time")
        narrow = broker_at(f"redis://narrow:of-the-tests@127.0.0.1:{port}/0")

        assert narrow.announce("a", "A") == []
        narrow.publish([(Priority.NORMAL, [1])])

        assert narrow.look()[Priority.NORMAL].waiting == 1
        narrow.close()
