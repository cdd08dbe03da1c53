"""Writing a backup: all tables are read in one snapshot. `restoring` reads it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from psycopg import sql

from .backup_tables import OF_VECTORS, columns_of, listed
from .database import Connection, Database, Row
from .fence import Fence
from .queries import QUERIES
from .restoring import Loading
from .server_errors import told

CAP = 100_000


class Backups:
    def __init__(self, database: Database) -> None:
        self.database = database

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """All reads are of one snapshot."""
        with self.database.snapshot() as connection:
            connection.execute(QUERIES.may_pause)
            yield Snapshot(connection)

    @contextmanager
    def loading(self, *, live_row: bool) -> Iterator[Loading]:
        with told(self.database.url):
            connection = self.database.connect(name="embedq restore")
            try:
                yield Loading(connection, Fence(self.database), live_row=live_row)
            finally:
                connection.close()

    def newer_than(self, taken_at: datetime | str) -> Row:
        """Whether there are tasks and articles here, and how many are younger."""
        return self.database.one(QUERIES.newer_than, {"taken_at": taken_at, "cap": CAP}) or {}


class Snapshot:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.facts: Row = connection.execute(QUERIES.backup_facts).fetchone() or {}

    def columns(self, table: str) -> list[str]:
        return [*OF_VECTORS] if table == "embedding_vectors" else [*columns_of(self.connection, table)]

    def rows(self, table: str) -> Iterator[bytes]:
        """COPY's text format, one line a row."""
        with self.connection.cursor().copy(sql.SQL("COPY ({}) TO STDOUT").format(self._query(table))) as source:
            for row in source:
                yield bytes(row)

    def _query(self, table: str) -> sql.Composable:
        if table == "embedding_vectors":
            return sql.SQL(QUERIES.backed_up_vectors)
        names = self.columns(table)
        first = sql.Identifier(names[0])
        return sql.SQL("SELECT {} FROM {} ORDER BY {}").format(listed(names), sql.Identifier(table), first)
