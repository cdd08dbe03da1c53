"""`Database` over psycopg's asynchronous connections, for code that runs below `bridge.bridged`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from ..bridge import Room, wait_here
from .database import Connection, Database, Row


class AsyncDatabase(Database):
    """Belongs to one event loop. While a statement runs, or all connections are in use, the loop runs other tasks."""

    def __init__(self, url: str, *, size: int = 4, name: str = "embedq") -> None:
        super().__init__(url, size=size, name=name)
        self._room = Room(size)

    def _connected(self, name: str) -> Connection:
        return cast(
            Connection, _Connection(wait_here(psycopg.AsyncConnection.connect(row_factory=dict_row, **self._address(name))))
        )


class _Connection:
    """Those methods of psycopg.Connection that the store uses."""

    def __init__(self, inner: psycopg.AsyncConnection[Row]) -> None:
        self._inner = inner

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None, *, binary: bool = False) -> _Cursor:
        return _Cursor(wait_here(self._inner.execute(sql, parameters, binary=binary)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        transaction = self._inner.transaction()
        wait_here(transaction.__aenter__())
        try:
            yield
        except BaseException as error:
            wait_here(transaction.__aexit__(type(error), error, error.__traceback__))
            raise
        wait_here(transaction.__aexit__(None, None, None))

    @property
    def prepare_threshold(self) -> int | None:
        return self._inner.prepare_threshold

    @prepare_threshold.setter
    def prepare_threshold(self, value: int | None) -> None:
        self._inner.prepare_threshold = value

    @property
    def isolation_level(self) -> IsolationLevel | None:
        return self._inner.isolation_level

    @isolation_level.setter
    def isolation_level(self, value: IsolationLevel | None) -> None:
        wait_here(self._inner.set_isolation_level(value))

    @property
    def closed(self) -> bool:
        return self._inner.closed

    @property
    def broken(self) -> bool:
        return self._inner.broken

    @property
    def info(self) -> psycopg.ConnectionInfo:
        return self._inner.info

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        """Needs no event loop: the loop that the connection was opened in may be closed."""
        self._inner.pgconn.finish()


class _Cursor:
    """The rows of one statement, all fetched."""

    def __init__(self, inner: psycopg.AsyncCursor[Row]) -> None:
        self._inner = inner
        self.pgresult, self.rowcount = inner.pgresult, inner.rowcount

    def fetchall(self) -> list[Row]:
        return wait_here(self._inner.fetchall())

    def fetchone(self) -> Row | None:
        return wait_here(self._inner.fetchone())
