"""Whether a pooler is between us and PostgreSQL, and whether it keeps a session for each client (docs/why/poolers.rst)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
from psycopg import IsolationLevel

from ..addresses import shown
from ..errors import ConfigError

# No process has it: settings hold for the transaction.
NO_PID = 0
# How often a second connection compares its server process with the first one's. Without load the first look tells.
LOOKS = 5


def adapt(connection: psycopg.Connection[Any]) -> None:
    """This connection goes through a pooler: it prepares no statements, and its transactions say what they rely on."""
    connection.prepare_threshold = None
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler is between: only then nothing is prepared."""
    return connection.prepare_threshold is None


def answering(connection: psycopg.Connection[Any]) -> int:
    """The server's process that this client has now."""
    answer = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
    return int(answer["pid"]) if answer else NO_PID


def own_process(url: str, connection: psycopg.Connection[Any], another: Callable[[], psycopg.Connection[Any]]) -> int:
    """The server's process that is this client's alone. Raises ConfigError where the pooler shares it with others.

    `another`: opens a second connection by the same way.
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
