"""The way to PostgreSQL: a pool of psycopg connections, short transactions, and errors in the operator's words.

psycopg directly, without SQLAlchemy in between: COPY, LISTEN and a start in 0.3 s need it (docs/why/psycopg.rst).
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

from ..errors import ConfigError, StoreUnavailable

Row = dict[str, Any]
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


def shown(url: str) -> str:
    """The address without user and password, fit to be printed."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'local socket'}:{parts.port or 5432}{parts.path}"


def plain(url: str) -> str:
    """SQLAlchemy's postgresql+psycopg:// is understood as well."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.split('+')[0]}://{rest}"


# A process that is frozen in the middle of a transaction must not hold a writer's rows for longer (SPEC G7).
NEVER_FROZEN = "SET idle_in_transaction_session_timeout = '5s'"
# A prepared statement keeps the plan of its first uses, and an empty table is best read whole: a worker that was started before a first
# bulk load would read the whole table for every claim, until PostgreSQL counts it anew. Its statements all find their rows by an index,
# and one plan each will do: of millions that wait PostgreSQL would make a new one for every claim, because that looks a little cheaper.
BY_INDEX = "SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan"


class Database:
    """`size` connections at most, opened when first needed and shared by threads; a broken one is never given out twice.

    `by_index`: no plan of theirs reads a whole table where an index serves (a worker's connections).
    """

    def __init__(self, url: str, *, size: int = 4, name: str = "embedq", by_index: bool = False) -> None:
        self.url = plain(url)
        self.name, self.by_index = name, by_index
        self._free: list[Connection] = []
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(size)
        self.statements = 0
        # Where many requests share few threads, nobody waits longer for another's lock; None: as long as it takes.
        self.lock_timeout_s: float | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own: committed at the end, rolled back by an error. Raises StoreUnavailable."""
        with self._lent() as connection, connection.transaction():
            yield connection

    def fetch(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """One statement, committed at once; all rows it returns."""
        with self._lent() as connection:
            cursor = connection.execute(sql, parameters)
            # Not cursor.description, which makes an object of each column.
            return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []

    def one(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        rows = self.fetch(sql, parameters)
        return rows[0] if rows else None

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """One statement, committed at once; how many rows it touched."""
        with self._lent() as connection:
            return connection.execute(sql, parameters).rowcount

    def connect(self, *, name: str | None = None) -> Connection:
        """A connection of the caller's own (LISTEN, the steward's lock), in autocommit. The caller closes it."""
        with told(self.url):
            connection = psycopg.connect(
                self.url,
                autocommit=True,
                row_factory=dict_row,
                application_name=name or self.name,
                **CONNECT,  # type: ignore[arg-type]
            )
            connection.execute(f"{NEVER_FROZEN}; {BY_INDEX}" if self.by_index else NEVER_FROZEN)
            if self.lock_timeout_s is not None:
                connection.execute(f"SET lock_timeout = '{self.lock_timeout_s:g}s'")
            return connection

    @contextmanager
    def _lent(self) -> Iterator[Connection]:
        with self._room:
            connection = self._take()
            try:
                with told(self.url):
                    yield connection
            finally:
                self._give_back(connection)

    def _take(self) -> Connection:
        """One that is still good: who saves an article must not pay for a restart of PostgreSQL that is over."""
        while (connection := self._idle()) is not None:
            if not _was_ended(connection):
                return connection
            connection.close()
        return self.connect()

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
        """Close what is not lent. Safe to call twice, and the database can be used again afterwards."""
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()


def _was_ended(connection: Connection) -> bool:
    """Whether the server has hung up, at the price of one look at the socket: nothing comes on an idle connection but its end."""
    look = select.poll()
    try:
        look.register(connection.fileno(), select.POLLIN)
        return bool(look.poll(0))
    except (OSError, psycopg.Error):
        return True


@contextmanager
def told(url: str) -> Iterator[None]:
    """psycopg's errors about the server's absence or set-up, as ours with the next step."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as missing:
        raise StoreUnavailable(
            f"the database at {shown(url)} is not set up: {first_line(missing)}", hint="run `embedq db upgrade`"
        ) from missing
    except (
        psycopg.errors.InvalidPassword,
        psycopg.errors.InvalidAuthorizationSpecification,
        psycopg.errors.InvalidCatalogName,
    ) as refused:
        raise StoreUnavailable(
            f"PostgreSQL at {shown(url)} refused the connection: {first_line(refused)}",
            hint="check user, password and database in DATABASE_URL",
        ) from refused
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        raise  # the server is there; who asked knows whether to ask again
    except psycopg.ProgrammingError as wrong:
        if "invalid connection option" in str(wrong) or "invalid dsn" in str(wrong) or 'missing "="' in str(wrong):
            raise ConfigError(
                "DATABASE_URL cannot be understood", hint="it looks like postgresql://user:password@host:5432/database"
            ) from None
        raise
    except (psycopg.OperationalError, psycopg.InterfaceError) as away:
        raise StoreUnavailable(
            f"PostgreSQL at {shown(url)} cannot be reached: {first_line(away)}",
            hint="is it running, and is DATABASE_URL right? `embedq db health` looks closer",
        ) from away


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
