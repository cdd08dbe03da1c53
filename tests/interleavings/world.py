"""A database that goes back to a start state within milliseconds, and the sessions that live through all schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from embedq.model import Model
from embedq.store import Store, schema
from embedq.store.queries import QUERIES

from .connections import GatedDatabase, gated
from .footprints import Mentions
from .scheduler import Monitor, name_statements

MODEL = Model("hashing", "hashing-v1", 64)
# Its own settings: nothing but the scheduler ends a wait or a session, and nothing runs beside the schedules.
SERVER = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "deadlock_timeout": "60s",
    "max_wal_size": "512MB",
    "max_locks_per_transaction": "256",
    "jit": "off",
}
SLOTS = 3
VACUUM_EVERY = 400


@dataclass(slots=True)
class Slot:
    """One operation's sessions: as a worker has them, as all else of embedq's has them, and as an application has one."""

    worker: GatedDatabase
    plain: GatedDatabase
    application: Any

    def close(self) -> None:
        self.worker.close()
        self.plain.close()
        self.application.close()


class World:
    """`url` is an empty database of its own. `monitor` and `admin` are sessions beside the explored ones."""

    def __init__(self, url: str) -> None:
        self.url = url
        database = GatedDatabase(url)
        schema.upgrade(database)
        Store(database).models.agree(MODEL)
        database.close()
        self.admin = psycopg.connect(url, autocommit=True, options="-c lock_timeout=20s")
        # Past all triggers; a session that changed this setting back and forth would plan all its statements anew each time.
        self.restorer = psycopg.connect(url, autocommit=True, options="-c lock_timeout=20s -c session_replication_role=replica")
        self._name = self._one("SELECT current_database()")
        self.mentions = Mentions(self.admin)
        self.monitor = Monitor(psycopg.connect(url, autocommit=True), self.mentions)
        self.store = Store(GatedDatabase(url, size=4, name="explorer"))
        self.restores = 0
        self.slots: list[Slot] = []
        self._kept: set[str] = set()
        self.at, self._moved = "", True
        name_statements({getattr(QUERIES, name): name for name in QUERIES.names()})

    def open(self, defaults: str = "read committed") -> None:
        """Sessions for the operations, in a database whose transactions are by default isolated like this."""
        for slot in self.slots:
            slot.close()
        self.admin.execute(f"ALTER DATABASE {self._name} SET default_transaction_isolation = '{defaults}'")
        self.slots = [self._slot() for _ in range(SLOTS)]

    def _slot(self) -> Slot:
        application = gated(psycopg.connect(self.url, autocommit=True, application_name="application"))
        return Slot(GatedDatabase(self.url, size=4, by_index=True), GatedDatabase(self.url, size=4), application)

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self.admin.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def _one(self, statement: str, *parameters: object) -> Any:
        return self.sql(statement, *parameters)[0][0]

    # Start states --------------------------------------------------------------------------------------------------------------

    def keep(self, name: str) -> None:
        """Remember all tables as they are, under this name."""
        self.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
        for table in self._tables():
            self.sql(f"CREATE TABLE {name}.{table} (LIKE public.{table} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING GENERATED)")
            self.sql(f"INSERT INTO {name}.{table} SELECT * FROM public.{table}")
        self.sql(_restoring(name, self._tables(), self._columns(), self._sequences()))
        self._kept.add(name)

    def restore(self, name: str, *, tables: bool = False) -> None:
        """As it was when it was kept. `tables`: models' tables may come or go in what follows, or have."""
        if tables or self._moved or name != self.at:
            self._restore_tables(name)
        self.restorer.execute(f"SELECT {name}.restore()")
        self.at, self._moved = name, tables
        self.restores += 1
        if self.restores % VACUUM_EVERY == 0:
            self.admin.execute("VACUUM (TRUNCATE false)")

    def _restore_tables(self, name: str) -> None:
        """Models' tables are made anew: one of the same name may have been another model's."""
        kept = {row[0] for row in self.sql("SELECT tablename FROM pg_tables WHERE schemaname = %s", name)}
        for table in set(self._tables()) - {each for each in kept if not _of_later_model(each)}:
            self.sql(f"DROP TABLE public.{table}")
        for table in kept - set(self._tables()):
            self.sql(f"CREATE TABLE public.{table} (LIKE {name}.{table} INCLUDING ALL)")
            number = table.rsplit("_", 1)[1]
            self.sql(f"ALTER TABLE public.embedding_vectors ATTACH PARTITION public.{table} FOR VALUES IN ({number})")

    def _tables(self) -> list[str]:
        return [row[0] for row in self.sql(_PLAIN_TABLES)]

    def _columns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for table, column in self.sql(_COLUMNS):
            found.setdefault(table, []).append(column)
        return found

    def _sequences(self) -> dict[str, tuple[int | None]]:
        return dict(self.sql("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"))

    def empty(self) -> None:
        """No article, task or worker; the first model active, in mode database."""
        if "empty_state" not in self._kept:
            self.store.status.set_mode("database", "explorer", "explorer")  # type: ignore[arg-type]
            self.keep("empty_state")
        self.restore("empty_state", tables=True)

    def close(self) -> None:
        for slot in self.slots:
            slot.close()
        self.store.close()
        self.admin.close()
        self.restorer.close()
        self.monitor.connection.close()


def _of_later_model(table: str) -> bool:
    return table.startswith("embedding_vectors_") and table != "embedding_vectors_1"


def _restoring(name: str, tables: list[str], columns: dict[str, list[str]], sequences: dict[str, Any]) -> str:
    """One function that puts all rows back, in one round trip."""
    lines = []
    for table in tables:
        listed = ", ".join(columns[table])
        lines.append(f"DELETE FROM public.{table};")
        lines.append(f"INSERT INTO public.{table} ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM {name}.{table};")
    for sequence, last in sequences.items():
        lines.append(f"PERFORM setval('public.{sequence}', {last or 1}, {'true' if last else 'false'});")
    body = "\n".join(lines)
    return (
        f"CREATE FUNCTION {name}.restore() RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan"
        f" AS $$ BEGIN {body} END $$"
    )


_PLAIN_TABLES = """SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
AND relname <> 'embedq_schema_version' ORDER BY relname"""
_COLUMNS = """SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY c.relname, a.attnum"""
