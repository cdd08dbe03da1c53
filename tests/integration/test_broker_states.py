"""A Redis that answers and yet loses or refuses messages is told by health, each with what to do; saves go on."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import redis

from embedq import Client
from embedq.broker.peek import peek
from embedq.operations.status import glance
from embedq.settings import from_env
from tests.contract.test_brokers import server
from tests.support import until


@contextmanager
def full(folder):
    with server(folder, "--maxmemory-policy", "noeviction") as port:
        redis.Redis(port=port).config_set("maxmemory", 1)
        yield port


@contextmanager
def evicting(folder):
    with server(folder, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb") as port:
        yield port


@contextmanager
def unsaved(folder):
    with server(folder, "--save", "3600 1", "--dbfilename", "taken") as port:
        (folder / "taken").mkdir()
        client = redis.Redis(port=port)
        client.set("x", 1)
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield port


@contextmanager
def replica(folder):
    (folder / "replica").mkdir()
    with server(folder) as master, server(folder / "replica", "--replicaof", "127.0.0.1", str(master)) as port:
        yield port


STATES = {
    "full": (full, "is full", True),
    "allkeys-lru": (evicting, "throws away", False),
    "MISCONF": (unsaved, "MISCONF", True),
    "READONLY": (replica, "READONLY", True),
}


@pytest.mark.parametrize("state", STATES)
def test_health_knows_it_and_saves_go_on(tmp_path, environment, state):
    make, words, refuses = STATES[state]
    with make(tmp_path) as port:
        settings = from_env(environment | {"EMBEDDING_BROKER_URL": f"redis://127.0.0.1:{port}/0"})
        with Client(settings) as client:
            client.create("Tea", "green", id="a")
            seen = glance(client.store, settings)
            assert client.get("a").title == "Tea"
            client.store.close()

    (finding,) = [each for each in seen.found if words in each.what]
    assert finding.next
    assert (finding.level == "problem") is refuses


def test_a_user_who_may_not_ask_for_the_state_sees_the_queues(tmp_path):
    with server(tmp_path) as port:
        redis.Redis(port=port).execute_command(
            "ACL", "SETUSER", "seeing", "on", ">of-the-tests", "~*", "+llen", "+hlen", "+select"
        )

        seen = peek(f"redis://seeing:of-the-tests@127.0.0.1:{port}/0")

    assert (seen.reachable, seen.unacknowledged, list(seen.states)) == (True, 0, [])
