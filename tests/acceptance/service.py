"""`embedq serve` as a process of its own, and a client that speaks to it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import psycopg

from tests.support import Process

AUTH, ADMIN = "token-for-the-articles", "token-for-the-operators"
TOKENS = {"AUTH_TOKEN": AUTH, "ADMIN_TOKEN": ADMIN}
FOR_ARTICLES = {"Authorization": f"Bearer {AUTH}"}
FOR_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
# The table that the examples of /admin/sources name, attached.
SOURCE = "posts"
ATTACHED = """
; CREATE SCHEMA IF NOT EXISTS blog;
CREATE TABLE IF NOT EXISTS blog.posts (id bigint PRIMARY KEY, title text, body text, published boolean);
SELECT embedq_attach('blog.posts', 'title', 'body')"""
TABLES = "article_texts, article_versions, embedding_tasks, embeddings, embedding_vectors, embedding_audit_logs"


class Served:
    """`articles` and `admin` are clients with the right token, `stranger` has none."""

    def __init__(self, process: Process, url: str) -> None:
        self.process, self.url = process, url
        self.articles = httpx.Client(base_url=url, headers=FOR_ARTICLES, timeout=30)
        self.admin = httpx.Client(base_url=url, headers=FOR_ADMIN, timeout=30)
        self.stranger = httpx.Client(base_url=url, timeout=30)

    def close(self) -> None:
        for client in (self.articles, self.admin, self.stranger):
            client.close()


@contextmanager
def serving(environment: Mapping[str, str], *arguments: str) -> Iterator[Served]:
    """The service on a free port of loopback, answering."""
    argv = [sys.executable, "-m", "embedq", "serve", "--port", "0", *arguments]
    with Process("serve", argv, TOKENS | dict(environment)) as process:
        process.says("Application startup complete")
        found = re.search(r"embedq serves (http://\S+)", process.output())
        assert found is not None, process.output()
        served = Served(process, found[1])
        try:
            yield served
        finally:
            served.close()


def hashing_at(database_url: str, redis_url: str) -> dict[str, str]:
    """The environment of a service whose provider is the built-in one."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "EMBEDDING_PROVIDER": "hashing",
        "EMBEDDING_DIMENSIONS": "64",
        "EMBEDDING_WORKER_INTERVAL": "200",
    }


def empty(database_url: str) -> None:
    """The database as it was when the service was first set up."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")  # type: ignore[arg-type]
        connection.execute("DELETE FROM embedding_worker_status")
        connection.execute("INSERT INTO embedding_worker_status (id, reason) VALUES (1, 'first set up')")


def problem(answer: httpx.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told: dict[str, object] = answer.json()
    assert told["next_step"]
    assert told["request_id"] == answer.headers["x-request-id"]
    assert told["status"] == answer.status_code
    return told
