"""The way to PostgreSQL: a pool of psycopg connections, short transactions, and errors in the operator's words.

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

from .. import addresses
from ..decide import refusals
from ..decide.refusals import first_line
from ..errors import ConfigError, InputError, StoreMissing, StoreRefused, StoreUnavailable
from . import sessions
from .poolers import NO_PID, adapt, is_pooled, own_process

Row = dict[str, Any]
T = TypeVar("T")
Connection = psycopg.Connection[Row]

# The SQLSTATE of what embedq's own functions refuse, with the next step as its hint.
REFUSED = "EQ001"

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
    """`size` connections at most, opened when first needed and shared by threads; a broken one is never given out twice.

    `by_index`: no plan of theirs reads a whole table where an index serves (a worker's connections).
    """

    def __init__(self, url: str, *, size: int = 4, name: str = "embedq", by_index: bool = False) -> None:
        self.url = addresses.plain(addresses.secret_of(url))
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
        """A transaction that reads, and sees the database as it was at one moment."""
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
        """A kept plan that the application's DDL made useless is no reason to fail: once more, on a new connection."""
        try:
            with self._lent() as connection:
                return self._once(connection, sql, parameters, read)
        except psycopg.errors.FeatureNotSupported as changed:
            if not _is_of_a_kept_plan(changed):
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
        """Behind a pooler it prepares no statements, and what `_beginning` says is to be said in each transaction."""
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
        return {"conninfo": self.url} | ours | CONNECT | addresses.primary_of_several(self.url)

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
                if _is_of_a_kept_plan(changed):
                    connection.close()  # its other kept plans are as old; the caller's next try has a new one
                raise
            except (StoreUnavailable, psycopg.Error) as failed:
                if refusals.means_another_server(_sqlstate(failed)):
                    connection.close()  # it goes, and with it the others of the pool: the next one may reach the new primary
                raise
            finally:
                self._give_back(connection)

    def _take(self) -> Connection:
        """One that is still good: who saves an article must not pay for a restart of PostgreSQL that is over."""
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
        """Close what is not lent. Safe to call twice, and the database can be used again afterwards."""
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()


def _sqlstate(error: BaseException) -> str | None:
    """Of psycopg's error, or of the one that ours was made from."""
    found: str | None = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    return found


def _rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
    # Not cursor.description, which makes an object of each column.
    return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []


def _is_of_a_kept_plan(error: psycopg.Error) -> bool:
    """Source: PostgreSQL, plancache.c: "cached plan must not change result type", SQLSTATE 0A000, raised in this one routine."""
    return error.diag.source_function == "RevalidateCachedQuery"


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
        raise StoreMissing(
            f"the database at {addresses.shown(url)} is not set up: {first_line(missing)}", hint="run `embedq db upgrade`"
        ) from missing
    except (
        psycopg.errors.InvalidPassword,
        psycopg.errors.InvalidAuthorizationSpecification,
        psycopg.errors.InvalidCatalogName,
    ) as refused:
        raise StoreUnavailable(
            f"PostgreSQL at {addresses.shown(url)} refused the connection: {first_line(refused)}",
            hint="check user, password and database in DATABASE_URL",
        ) from refused
    except (psycopg.errors.UntranslatableCharacter, psycopg.errors.CharacterNotInRepertoire) as text:
        raise InputError(
            f"the database at {addresses.shown(url)} cannot keep this text: {first_line(text)}",
            hint="a database with the encoding UTF8 keeps every text; move to one, or leave these characters out",
        ) from text
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        raise  # the server is there; who asked knows whether to ask again
    except psycopg.Error as error:
        if error.sqlstate == REFUSED:
            raise InputError(str(error.diag.message_primary), hint=str(error.diag.message_hint)) from error
        known = refusals.of_sqlstate(error.sqlstate)
        if known is not None and not _is_of_a_kept_plan(error):
            raise StoreRefused(
                f"PostgreSQL at {addresses.shown(url)} {known.why}: {first_line(error)}", hint=known.hint
            ) from error
        _tell_of_absence(url, error)
        raise


# Refusals of a connection, for which libpq gives no SQLSTATE: words of the server's message, and the code that they stand for.
# Source: PostgreSQL, postmaster.c, proc.c, postinit.c.
WORDS = {
    "too many clients": "53300",
    "too many connections": "53300",
    "remaining connection slots": "53300",
    "No space left on device": "53100",
    "could not write": "58030",
}
STARTING = ("starting up", "shutting down", "in recovery mode", "not yet accepting connections")


def _of_words(error: psycopg.Error) -> refusals.Refused | None:
    said = str(error)
    if any(words in said for words in STARTING):
        return refusals.Refused("is not ready", "wait until it has started or recovered; its own log says how far it is")
    return next((refusals.of_sqlstate(code) for words, code in WORDS.items() if words in said), None)


def _tell_of_absence(url: str, error: psycopg.Error) -> None:
    if isinstance(error, psycopg.OperationalError) and (refused := _of_words(error)) is not None:
        raise StoreRefused(
            f"PostgreSQL at {addresses.shown(url)} {refused.why}: {first_line(error)}", hint=refused.hint
        ) from error
    match error:
        case psycopg.ProgrammingError():
            if _is_of_the_address(error):
                raise ConfigError(
                    "DATABASE_URL cannot be understood", hint="it looks like postgresql://user:password@host:5432/database"
                ) from None
        case psycopg.OperationalError() | psycopg.InterfaceError():
            raise StoreUnavailable(
                f"PostgreSQL at {addresses.shown(url)} cannot be reached: {first_line(error)}",
                hint="is it running, and is DATABASE_URL right? `embedq db health` looks closer",
            ) from error


def _is_of_the_address(error: psycopg.Error) -> bool:
    return any(words in str(error) for words in ("invalid connection option", "invalid dsn", 'missing "="'))
