"""Access to PostgreSQL: a pool of psycopg connections, short transactions, psycopg's errors as ours.

psycopg directly, without SQLAlchemy in between: COPY, LISTEN and a start in 0.3 s need it (docs/why/psycopg.rst).
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from .. import address_kinds, addresses
from ..decide import refusals
from ..errors import StoreUnavailable
from . import sessions
from .poolers import NO_PID, adapt, is_pooled, own_process
from .server_errors import is_of_a_kept_plan, told

Row = dict[str, Any]
T = TypeVar("T")
Connection = psycopg.Connection[Row]


# A half-open connection is noticed within about ten seconds instead of two hours.
CONNECT = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class Database:
    """`size` connections at most, opened when first needed and shared by threads; a broken one is not reused.

    `by_index`: plans use an index wherever one serves (a worker's connections; see sessions.BY_INDEX).
    """

    def __init__(self, url: str, *, size: int = 4, name: str = "embedq", by_index: bool = False) -> None:
        self.url = address_kinds.plain(addresses.secret_of(url))
        self.name, self.by_index = name, by_index
        self._free: list[Connection] = []
        self._lock = threading.Lock()
        self._room: AbstractContextManager[object] = threading.BoundedSemaphore(size)
        self.statements = 0
        # lock_timeout of the sessions, in seconds, for a service whose requests share few threads; None: no limit.
        self.lock_timeout_s: float | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own: committed at the end, rolled back by an error. Raises StoreUnavailable."""
        with self._lent() as connection, self._begun(connection):
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A read-only transaction on one snapshot."""
        with self._lent() as connection:
            usual, connection.isolation_level, connection.read_only = (
                connection.isolation_level,
                IsolationLevel.REPEATABLE_READ,
                True,
            )
            try:
                with self._begun(connection):
                    yield connection
            finally:
                if not connection.closed:
                    connection.isolation_level, connection.read_only = usual, None

    @contextmanager
    def _begun(self, connection: Connection) -> Iterator[None]:
        with connection.transaction():
            if is_pooled(connection):
                connection.execute(self._beginning())
            yield

    def fetch(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """One statement, committed at once; all rows it returns."""
        return self._alone(sql, parameters, _rows)

    def one(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        rows = self.fetch(sql, parameters)
        return rows[0] if rows else None

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """One statement, committed at once; how many rows it touched."""
        return self._alone(sql, parameters, lambda cursor: cursor.rowcount)

    def is_fresh(self) -> bool:
        """Whether PostgreSQL was started within the last 30 seconds."""
        return self.one("SELECT clock_timestamp() - pg_postmaster_start_time() < make_interval(secs => 30) AS fresh") == {
            "fresh": True
        }

    def _alone(self, sql: str, parameters: Mapping[str, Any] | None, read: Callable[[psycopg.Cursor[Row]], T]) -> T:
        """A prepared plan that DDL has invalidated (cached plan must not change result type): try once more on a new connection."""
        try:
            with self._lent() as connection:
                return self._once(connection, sql, parameters, read)
        except psycopg.errors.FeatureNotSupported as changed:
            if not is_of_a_kept_plan(changed):
                raise
        with self._lent() as connection:
            return self._once(connection, sql, parameters, read)

    def _once(
        self, connection: Connection, sql: str, parameters: Mapping[str, Any] | None, read: Callable[[psycopg.Cursor[Row]], T]
    ) -> T:
        if not is_pooled(connection):
            return read(connection.execute(sql, parameters))
        with self._begun(connection):
            return read(connection.execute(sql, parameters))

    def connect(self, *, name: str | None = None, **settings: str) -> Connection:
        """A connection of the caller's own (LISTEN, the steward's lock), in autocommit, with these settings besides ours. The caller closes it.

        Raises ConfigError behind a pooler that keeps no session for a client.
        """
        with told(self.url):
            connection = self._open(name or self.name, settings)
            try:
                if is_pooled(connection):
                    own = own_process(self.url, connection, lambda: self._open(self.name, {}))
                    connection.execute(self._beginning(own, settings))
            except BaseException:
                connection.close()
                raise
            return connection

    def demand_session(self) -> None:
        """Raises ConfigError behind a pooler that keeps no session for a client: LISTEN, session locks and settings would be lost."""
        self.connect().close()

    def _open(self, name: str, settings: Mapping[str, str]) -> Connection:
        """Behind a pooler it prepares no statements, and sends `_beginning` in each transaction."""
        connection = self._connected(name)
        try:
            pid = connection.info.backend_pid
            answer = connection.execute(self._beginning(pid, settings)).fetchone()
            if answer is None or answer["pid"] != pid:
                adapt(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self, name: str) -> Connection:
        return psycopg.connect(row_factory=dict_row, **self._address(name))

    def _address(self, name: str) -> dict[str, Any]:
        """psycopg's arguments for a connection."""
        ours = {"autocommit": True, "application_name": name, "client_encoding": "UTF8"}
        return {"conninfo": self.url} | ours | CONNECT | address_kinds.primary_of_several(self.url)

    def _beginning(self, pid: int = NO_PID, settings: Mapping[str, str] | None = None) -> str:
        return sessions.beginning({**self._settings(), **(settings or {})}, pid)

    def _settings(self) -> dict[str, str]:
        wanted = dict(sessions.BY_INDEX) if self.by_index else {}
        return wanted if self.lock_timeout_s is None else wanted | {"lock_timeout": f"{self.lock_timeout_s:g}s"}

    @contextmanager
    def _lent(self) -> Iterator[Connection]:
        with self._room:
            connection = self._take()
            try:
                with told(self.url):
                    yield connection
            except psycopg.errors.FeatureNotSupported as changed:
                if is_of_a_kept_plan(changed):
                    connection.close()  # its other prepared plans are invalid too; the next attempt gets a new connection
                raise
            except (StoreUnavailable, psycopg.Error) as failed:
                if refusals.means_another_server(_sqlstate(failed)):
                    connection.close()  # closing it empties the pool: the next connection may reach the new primary
                raise
            finally:
                self._give_back(connection)

    def _take(self) -> Connection:
        """A connection that the server has not closed, so that a save does not fail after a restart of PostgreSQL."""
        while (connection := self._idle()) is not None:
            if not _was_ended(connection):
                return connection
            connection.close()
        with told(self.url):
            return self._open(self.name, {})

    def _idle(self) -> Connection | None:
        with self._lock:
            return self._free.pop() if self._free else None

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.broken or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.close()
            # The others of the pool were opened to the same server and are most likely dead as well.
            self.close()
            return
        with self._lock:
            self._free.append(connection)

    def close(self) -> None:
        """Close the connections that are not in use. Safe to call twice, and the database can be used again afterwards."""
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()


def _sqlstate(error: BaseException) -> str | None:
    """Of psycopg's error, or of the one that ours was made from."""
    found: str | None = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    return found


def _rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
    # Not cursor.description, which creates an object for each column.
    return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []


def _was_ended(connection: Connection) -> bool:
    """Whether the server has closed the connection, by one poll: an idle connection only becomes readable when it ends."""
    look = select.poll()
    try:
        look.register(connection.fileno(), select.POLLIN)
        return bool(look.poll(0))
    except (OSError, psycopg.Error):
        return True
