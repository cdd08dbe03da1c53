"""Databases that were copied by PostgreSQL's own tools: what holds, and what reconcile makes whole."""

from __future__ import annotations

import os
import subprocess

import pytest
from psycopg.conninfo import conninfo_to_dict

from embedq import Client, wiring
from embedq.local import programs
from embedq.local.servers import Servers
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.conftest import fresh_database
from tests.failover import Node
from tests.support import until


def run(program, *arguments, url):
    its = conninfo_to_dict(url)
    to = ["-h", its["host"], "-p", its["port"], "-U", its["user"]]
    argv = [str(programs.postgres().parent / program), *to, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"PGPASSWORD": its["password"]}, timeout=120)
    assert done.returncode == 0, done.stderr


def verified(url):
    store = Store(Database(url))
    try:
        return store.care.verify()
    finally:
        store.close()


def test_a_dump_of_the_database_is_whole(servers: Servers, client, admin_url, tmp_path, store):
    client.store.status.set_mode("sync", "a test", "test", category="test")
    client.create("Tea", "green", id="a")
    client.edit("a", content="black")
    name = conninfo_to_dict(admin_url)["dbname"]

    run("pg_dump", "-Fc", "-f", str(tmp_path / "dump"), name, url=admin_url)
    with fresh_database(servers, "template0") as url:
        copied = conninfo_to_dict(url)["dbname"]
        run("pg_restore", "-d", copied, str(tmp_path / "dump"), url=admin_url)

        assert verified(url)["problems"] == []
        again = Store(Database(url))
        assert again.articles.get("a").embedding_status == "ready"
        assert again.database.execute("INSERT INTO articles (id, title) VALUES ('b', 'Coffee')") == 1
        again.close()


def test_articles_that_were_restored_without_triggers_are_found_by_reconcile(
    servers: Servers, template, client, admin_url, tmp_path
):
    for n in range(5):
        client.create("Tea", f"green {n}", id=f"a{n}")
    dumped = ["-Fc", "--data-only", "-t", "article_texts", "-f", str(tmp_path / "dump"), conninfo_to_dict(admin_url)["dbname"]]

    run("pg_dump", *dumped, url=admin_url)
    with fresh_database(servers, template) as url:
        run(
            "pg_restore",
            "--data-only",
            "--disable-triggers",
            "-d",
            conninfo_to_dict(url)["dbname"],
            str(tmp_path / "dump"),
            url=admin_url,
        )

        assert verified(url)["missing"] == 5
        store = Store(Database(url))
        store.care.reconcile()
        assert store.database.one("SELECT count(*) AS n FROM embedding_tasks WHERE status = 'pending'") == {"n": 5}
        store.close()
        assert verified(url)["problems"] == []


@pytest.fixture
def subscriber(tmp_path, environment):
    """A publisher and a subscriber of its articles, each with embedq."""
    nodes = [Node(tmp_path / "publisher"), Node(tmp_path / "subscriber")]
    if nodes[0].owner is not None:
        os.chown(tmp_path, *nodes[0].owner)
    for node in nodes:
        node.initialise()
        node.start("wal_level=logical")
        node.sql("CREATE DATABASE app", "postgres")
        store = Store(Database(node.url()))
        wiring.set_up(from_env(environment | {"DATABASE_URL": node.url()}), store)
        store.close()
    nodes[0].sql("CREATE PUBLICATION of_articles FOR TABLE article_texts")
    nodes[1].sql(
        f"CREATE SUBSCRIPTION to_articles CONNECTION 'host=127.0.0.1 port={nodes[0].port} user=postgres dbname=app' PUBLICATION of_articles"
    )
    yield nodes
    for node in nodes:
        node.die()


def test_articles_that_were_replicated_are_found_by_reconcile(subscriber, environment):
    publisher, copy = subscriber
    with Client(from_env(environment | {"DATABASE_URL": publisher.url()})) as client:
        client.create("Tea", "green", id="a")
        client.create("Tea", "white", id="b")
        client.edit("b", content="black")
    until(lambda: copy.sql("SELECT id, content FROM articles ORDER BY id") == [("a", "green"), ("b", "black")])

    assert verified(copy.url())["missing"] == 2
    store = Store(Database(copy.url()))
    store.care.reconcile()

    assert store.database.one("SELECT count(*) AS n FROM embedding_tasks WHERE status = 'pending'") == {"n": 2}
    store.close()
    assert verified(copy.url())["problems"] == []
