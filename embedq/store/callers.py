"""The caller's own connection and transaction: which drivers are supported, and how a statement is executed on each.

A driver is only considered if its module is loaded, because a caller that has a connection has imported it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from ..errors import InputError

PARAMETER: Final = re.compile(r"%\((\w+)\)s")
# module:class
SESSIONS: Final = ("sqlalchemy.orm:Session", "sqlalchemy.orm:scoped_session")
CONNECTIONS: Final = ("sqlalchemy.engine:Connection",)
ASYNC_SESSIONS: Final = ("sqlalchemy.ext.asyncio:AsyncSession", "sqlalchemy.ext.asyncio:async_scoped_session")
ASYNC_CONNECTIONS: Final = ("sqlalchemy.ext.asyncio:AsyncConnection",)
ASYNCPG: Final = ("asyncpg:Connection", "asyncpg.pool:PoolConnectionProxy")
DJANGO: Final = ("django.db.backends.base.base:BaseDatabaseWrapper",)
DJANGO_PROXY: Final = ("django.utils.connection:ConnectionProxy",)

TAKEN: Final = "a psycopg connection, a SQLAlchemy Connection or Session, or Django's connection"
TAKEN_ASYNC: Final = "a psycopg AsyncConnection, a SQLAlchemy AsyncConnection or AsyncSession, or an asyncpg connection"


class Statement(NamedTuple):
    """SQL with psycopg's `%(name)s`, and the values by name."""

    sql: str
    parameters: Mapping[str, Any]


def tell(connection: Any, statements: Iterable[Statement]) -> None:
    """Execute these in the transaction of the caller's connection. Raises InputError for one that is of no known kind, is not to
    PostgreSQL, or is in no transaction: settings of the transaction would be lost after the statement."""
    if isinstance(connection, psycopg.Connection):
        _refuse_outside(_is_alone(connection))
        for statement in statements:
            connection.execute(*statement)
    elif _is(connection, *SESSIONS, *CONNECTIONS):
        _tell_sqlalchemy(connection.connection() if _is(connection, *SESSIONS) else connection, statements)
    elif _is(connection, *DJANGO, *DJANGO_PROXY):
        _tell_django(connection, statements)
    else:
        raise _unknown(connection, "Client", TAKEN, "AsyncClient" if _is_async(connection) else None)


async def atell(connection: Any, statements: Iterable[Statement]) -> None:
    """`tell` for connections of an event loop."""
    if isinstance(connection, psycopg.AsyncConnection):
        _refuse_outside(_is_alone(connection))
        for statement in statements:
            await connection.execute(*statement)
    elif _is(connection, *ASYNC_SESSIONS, *ASYNC_CONNECTIONS):
        await _atell_sqlalchemy(await connection.connection() if _is(connection, *ASYNC_SESSIONS) else connection, statements)
    elif _is(connection, *ASYNCPG):
        _refuse_outside(not connection.is_in_transaction())
        for statement in statements:
            await connection.execute(*_numbered(statement))
    else:
        raise _unknown(connection, "AsyncClient", TAKEN_ASYNC, "Client" if _is_sync(connection) else None)


def _tell_sqlalchemy(connection: Any, statements: Iterable[Statement]) -> None:
    _refuse_unfit(connection)
    for statement in statements:
        connection.execute(*_as_text(statement))


async def _atell_sqlalchemy(connection: Any, statements: Iterable[Statement]) -> None:
    _refuse_unfit(connection.sync_connection)
    for statement in statements:
        await connection.execute(*_as_text(statement))


def _tell_django(connection: Any, statements: Iterable[Statement]) -> None:
    if _is(connection, *DJANGO_PROXY):
        connection = sys.modules["django.db"].connections[connection.alias]
    _refuse_other_database(connection.vendor)
    _refuse_outside(connection.get_autocommit())
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(*statement)


# A statement as each driver takes it ---------------------------------------------------------------------------------------------


def _as_text(statement: Statement) -> tuple[Any, Mapping[str, Any]]:
    return sys.modules["sqlalchemy"].text(PARAMETER.sub(r":\1", statement.sql)), statement.parameters


def _numbered(statement: Statement) -> tuple[Any, ...]:
    """asyncpg's `$1`, and the values in the order of the names' first use."""
    names = list(dict.fromkeys(PARAMETER.findall(statement.sql)))
    sql = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement.sql)
    return sql, *(statement.parameters[name] for name in names)


# Checks -----------------------------------------------------------------------------------------------------------------


def _is(thing: object, *names: str) -> bool:
    """Whether it is an instance of one of these classes. A class whose module is not loaded has no instances."""
    classes = [getattr(sys.modules.get(module), name, None) for module, name in (each.split(":") for each in names)]
    return any(isinstance(thing, known) for known in classes if isinstance(known, type))


def _is_async(connection: object) -> bool:
    return isinstance(connection, psycopg.AsyncConnection) or _is(connection, *ASYNC_SESSIONS, *ASYNC_CONNECTIONS, *ASYNCPG)


def _is_sync(connection: object) -> bool:
    return isinstance(connection, psycopg.Connection) or _is(connection, *SESSIONS, *CONNECTIONS, *DJANGO, *DJANGO_PROXY)


def _is_alone(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether each statement is a transaction of its own."""
    return connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE


def _refuse_unfit(connection: Any) -> None:
    """`connection`: a SQLAlchemy Connection."""
    _refuse_other_database(connection.dialect.name)
    _refuse_outside(getattr(connection.connection.dbapi_connection, "autocommit", False) is True)


def _refuse_outside(outside: bool) -> None:
    if outside:
        raise InputError(
            "the connection is in no transaction",
            hint="begin one around `within`: it is for writes of one transaction",
            field="connection",
        )


def _refuse_other_database(name: str) -> None:
    if name != "postgresql":
        raise InputError(f"the connection is to {name}", hint="`within` takes connections to PostgreSQL", field="connection")


def _unknown(connection: object, client: str, taken: str, other: str | None) -> InputError:
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    hint = f"{other}.within takes it" if other else f"hand in {taken}"
    return InputError(f"{client}.within does not know connections of the type {kind}", hint=hint, field="connection")
