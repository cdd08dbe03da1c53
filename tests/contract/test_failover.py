"""A primary that turns read-only or goes away: connections are thrown away, and workers come back by themselves."""

from __future__ import annotations

import psycopg
import pytest

from embedq import Client, wiring
from embedq.errors import EmbedqError, StoreRefused, StoreUnavailable
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.failover import pair
from tests.support import run_command, start_celery, start_poller, until


@pytest.fixture
def read_only(admin_url, database_url):
    """Turns the database read-only as a failover does, and back: new sessions begin so, those that there are end or stay."""

    def turn(on, *, end=True):
        name = database_url.rsplit("/", 1)[1]
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {'on' if on else 'off'}")
            if end:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                    (name,),
                )

    return turn


def test_connections_to_a_server_that_takes_no_writes_are_thrown_away(store, client, read_only):
    client.create("Tea", "green")
    read_only(True)
    for _ in range(4):
        with pytest.raises(StoreRefused, match="takes no writes"):
            client.create("Tea", "white")

    read_only(False, end=False)

    assert client.create("Tea", "black").id
    assert client.get(client.create("Tea", "red").id).content == "red"


@pytest.mark.parametrize("start", [start_poller, start_celery])
def test_workers_come_back_by_themselves_from_a_primary_that_was_read_only(
    environment, psql, admin_url, read_only, database_url, start
):
    with Client(from_env(environment)) as client, start(environment) as worker:
        client.store.status.set_mode("database" if start is start_poller else "celery", "a test", "test", category="test")
        client.create("Tea", "green", id="before")
        until(lambda: client.get("before").embedding_status == "ready")

        read_only(True)
        until(lambda: "takes no writes" in worker.output() or "read-only" in worker.output(), why=worker.output)
        read_only(False, end=False)

        client.create("Tea", "green", id="after")
        until(lambda: client.get("after").embedding_status == "ready", 30, worker.output)
        assert worker.runs and "Traceback" not in worker.output()


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("mode", "database", "--reason", "x"),
        ("pause", "--priority", "low", "--reason", "x"),
        ("articles", "add", "Tea", "--content", "x"),
    ],
)
def test_commands_say_that_the_primary_takes_no_writes(environment, read_only, command):
    read_only(True)

    done = run_command(environment, *command)

    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 3) if command == ("status",) else "takes no writes" in done.stderr, done


def several(*nodes, more="target_session_attrs=read-write"):
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return f"postgresql://app@{hosts}/app" + (f"?{more}" if more else "")


def set_up(environment):
    def make(url):
        settings = from_env(environment | {"DATABASE_URL": url})
        store = Store(Database(url))
        wiring.set_up(settings, store)
        store.close()

    return make


@pytest.mark.parametrize("more", ["target_session_attrs=read-write", ""], ids=["read-write", "no target named"])
@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_a_replica_that_is_promoted_under_load_goes_on(tmp_path, environment, synchronous, more):
    # What the worker had settled, and the replica did not get, it holds until this has passed.
    ours = environment | {"EMBEDDING_MODE": "database", "EMBEDDING_WORKER_TIMEOUT": "10000"}
    primary, replica = pair(tmp_path, synchronous=synchronous, set_up=set_up(ours))
    try:
        ours |= {"DATABASE_URL": several(primary, replica, more=more)}
        saved, refused = [], []
        with start_poller(ours) as worker, Client(from_env(ours)) as client:
            for n in range(60):
                if n == 30:
                    primary.die()
                try:
                    saved.append(client.create("Tea", f"green {n}", id=f"a{n}").id)
                except (StoreUnavailable, EmbedqError) as away:
                    refused.append(away)
                    if len(refused) == 1:
                        replica.promote()
            client.create("Tea", "after", id="after")

            until(lambda: client.get("after").embedding_status == "ready", 20, worker.output)
            until(lambda: replica.sql("SELECT count(*) FROM articles WHERE embedding_status <> 'ready'") == [(0,)], 60)
            kept = {row[0] for row in replica.sql("SELECT id FROM articles")}
            verified = run_command(ours, "verify")
            assert worker.runs

        assert refused
        assert verified.returncode == 0, verified
        if synchronous:
            assert set(saved) <= kept
        assert "Traceback" not in worker.output()
    finally:
        primary.die()
        replica.die()


def test_a_worker_finds_the_primary_at_whatever_place_of_the_list(tmp_path, environment):
    primary, replica = pair(tmp_path, synchronous=False, set_up=set_up(environment))
    try:
        for nodes in ((primary, replica), (replica, primary)):
            with Client(from_env(environment | {"DATABASE_URL": several(*nodes, more="")})) as client:
                client.create("Tea", "green")
        with Client(from_env(environment | {"DATABASE_URL": replica.url(user="app")})) as client, pytest.raises(StoreRefused):
            client.create("Tea", "green")
    finally:
        primary.die()
        replica.die()
