"""Detects a connection pooler before PostgreSQL, and whether it keeps a session for each client (docs/why/poolers.rst)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
from psycopg import IsolationLevel

from ..addresses import shown
from ..errors import ConfigError

# No server process has this id: settings are per transaction.
NO_PID = 0
# How often a second connection compares its server process with the first one's. Without load the first comparison suffices.
LOOKS = 5


def adapt(connection: psycopg.Connection[Any]) -> None:
    """This connection goes through a pooler: disable prepared statements, and set the session settings in each transaction."""
    connection.prepare_threshold = None
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler was detected: only then are prepared statements disabled."""
    return connection.prepare_threshold is None


def answering(connection: psycopg.Connection[Any]) -> int:
    """The server process that serves this client now."""
    answer = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
    return int(answer["pid"]) if answer else NO_PID


def own_process(url: str, connection: psycopg.Connection[Any], another: Callable[[], psycopg.Connection[Any]]) -> int:
    """The server process that serves only this client. Raises ConfigError where the pooler shares it with others.

    `another`: opens a second connection to the same address.
    """
    own = answering(connection)
    for _ in range(LOOKS):
        with closing(another()) as other:
            if answering(other) == own or answering(connection) != own:
                raise ConfigError(
                    f"PostgreSQL at {shown(url)} is behind a pooler that shares sessions between clients"
                    " (PgBouncer's pool_mode transaction or statement)",
                    hint="give workers and operators' commands the address of PostgreSQL itself, or of a pool in session mode, in"
                    " DATABASE_URL; applications that write and search may keep this one",
                )
    return own
