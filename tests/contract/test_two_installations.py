"""Staging and production on one Redis, or one virtual host of RabbitMQ: noticed at once by both, and said."""

from __future__ import annotations

import pytest
import redis

from embedq import Client
from embedq.broker import broker_at
from embedq.broker.neighbours import BOARD
from embedq.broker.peek import peek
from embedq.broker.whose import Whose
from embedq.model import Priority
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.conftest import fresh_database
from tests.contract.test_brokers import server
from tests.support import run_command, start_celery, until


@pytest.fixture
def another(servers, template, environment):
    with fresh_database(servers, template) as url:
        yield environment | {"DATABASE_URL": url}


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker_of_both(request):
    return {} if request.param == "redis" else {"EMBEDDING_BROKER_URL": request.getfixturevalue("rabbitmq_url")}


def test_two_workers_of_two_databases_on_one_broker_are_told_by_health_and_logs(environment, another, broker_of_both):
    environment, another = environment | broker_of_both, another | broker_of_both
    with start_celery(environment) as here, start_celery(another) as there:
        until(lambda: "another installation" in here.output() + there.output(), 60, here.output)

        for ours in (environment, another):
            until(lambda ours=ours: "several installations" in run_command(ours, "health").stdout, 60)


def test_two_workers_of_one_installation_are_no_neighbours(redis_url, database_url):
    one, other = Store(Database(database_url)), Store(Database(database_url))
    broker = broker_at(redis_url)

    for store in (one, other):
        its = store.watch.installation()
        assert its["name"].startswith(f"database {database_url.rsplit('/', 1)[1]}, schema public (")
        assert broker.announce(its["identity"], its["name"]) == []
        store.close()

    assert list(peek(redis_url).states) == []
    broker.close()


def test_a_worker_gives_back_what_is_anothers_while_that_is_there(environment, another, broker_of_both):
    """Otherwise it would wait until its own steward misses it: 5 s on Redis, 20 s on RabbitMQ."""
    environment, another = environment | broker_of_both, another | broker_of_both
    with Client(from_env(environment)) as client, start_celery(another) as stranger:
        its = client.store.watch.installation()
        client.broker.announce(its["identity"], its["name"])
        # On RabbitMQ its steward's look at the names hides them from another look at that moment.
        until(lambda: "another installation" in stranger.output(), 30, stranger.output)
        client.create("Tea", "green", id="a")
        until(lambda: "is given back" in stranger.output(), 30, stranger.output)

        with start_celery(environment) as ours:
            until(lambda: client.get("a").embedding_status == "ready", 20, lambda: ours.output() + stranger.output())
        assert client.store.database.fetch("SELECT delivery FROM embedding_tasks") == [{"delivery": "celery"}]


def test_what_an_installation_that_is_gone_has_left_is_given_back_by_nobody():
    present, now = {"other": "Other"}, [0.0]
    whose = Whose(lambda: "ours", lambda: present, lambda: now[0])
    assert [whose.of_another(each) for each in ("ours", "", None, "other", "gone")] == [False, False, False, True, False]

    present, now[0] = {}, 60.0

    assert not whose.of_another("other")
    assert not Whose(lambda: "", lambda: {"other": "Other"}).of_another("other")


@pytest.mark.rabbitmq
def test_names_on_rabbitmq_are_found_by_all_and_left_once_by_each(rabbitmq_url):
    zero, one = broker_at(rabbitmq_url), broker_at(rabbitmq_url)

    assert (zero.announce("a", "A"), peek(rabbitmq_url).states) == ([], [])
    assert (one.announce("b", "B"), zero.announce("a", "A"), one.announce("b", "B")) == (["A"], ["B"], ["A"])
    (state,) = peek(rabbitmq_url).states
    assert "A; B" in state.what and "virtual host" in state.next
    with zero.connection() as connection:
        assert connection.channel().queue_delete(BOARD) == 2
    for broker in (zero, one):
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
