"""Restores the tables of a backup in repeatable steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ..decide.modes import COLUMNS, LiveState
from ..decide.preparation import of_register, same_prefixes
from ..decide.preparation import told as inputs_told
from ..decide.refusals import first_line
from ..decide.sources import command_of
from ..errors import InputError, NotWell
from .backup_tables import OF_VECTORS, columns_of, listed
from .database import Connection, Row
from .fence import Change, Fence
from .grants import grant_vectors
from .queries import QUERIES
from .sessions import GIVES_WAY
from .settling import MET_A_WRITER

Loaded = Mapping[str, int]

SET_BY_LOADING = (
    "id",
    "model_id",
    "status",
    "version",
    "lease_holder",
    "dispatched_at",
    "processed_at",
    "completed_at",
    "error_message",
)
TRIES = 10


class Loading:
    """One session: rows are copied into temporary tables and from there merged, each step in a transaction of its own."""

    def __init__(self, connection: Connection, fence: Fence, *, live_row: bool) -> None:
        self.connection, self.live_row, self._fence = connection, live_row, fence
        self.warnings: list[str] = []
        self._staged: dict[str, list[str]] = {}
        connection.execute(QUERIES.model_map)
        self._loaders: Mapping[str, Callable[[], Loaded]] = {
            "embedding_models": self._models,
            "embedding_active_model": self._active_model,
            "article_versions": lambda: self._plain("load_versions", "article_versions"),
            "article_texts": self._articles,
            "embedding_vectors": self._vectors,
            "embedding_tasks": self._tasks,
            "embedding_rejected_messages": self._rejected,
            "embedding_usage": lambda: self._plain("load_usage", "embedding_usage"),
            "embedding_audit_logs": self._audit,
            "embedding_sources": self._sources,
            "embedding_worker_status": self._live_row,
        }

    def load(self, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> Loaded:
        """Restore these rows in one transaction; their number by outcome. They are streamed to PostgreSQL unchanged.

        Raises InputError for a table that is not ours, and for rows that PostgreSQL does not take."""
        if table not in self._loaders:
            raise InputError(
                f"the backup has a table {table!r} that is not embedq's", hint="it was written by another program or version"
            )
        with _told_of_rows(table):
            with self.connection.transaction():
                self._stage(table, columns, rows)
            return self._merge(table)

    def _merge(self, table: str) -> Loaded:
        for _ in range(TRIES):
            try:
                with self.connection.transaction():
                    self.connection.execute(QUERIES.be_patient_for, {"timeout": GIVES_WAY})
                    return self._loaders[table]()
            except MET_A_WRITER:
                continue  # a concurrent transaction writes the same article: the next attempt sees its result
        raise NotWell(
            f"{table}: writers were in the way again and again", hint="run the same restore again, it goes on where it was"
        )

    def _stage(self, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> None:
        staged, names = sql.Identifier(f"staged_{table}"), listed(columns)
        types = OF_VECTORS if table == "embedding_vectors" else columns_of(self.connection, table)
        typed = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types.get(name, "text"))) for name in columns]
        self.connection.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(staged))
        self.connection.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({})").format(staged, sql.SQL(", ").join(typed)))
        with self.connection.cursor().copy(sql.SQL("COPY pg_temp.{} ({}) FROM STDIN").format(staged, names)) as sink:
            for row in rows:
                sink.write(row)
        self._staged[table] = [name for name in columns if name in types]

    def _models(self) -> Loaded:
        self.connection.execute(QUERIES.staged_models_have_a_preparation)
        known = {row["id"]: row["preparation"] for row in self.connection.execute(QUERIES.models).fetchall()}
        made = 0
        for row in self.connection.execute(QUERIES.staged_models).fetchall():
            there = self.connection.execute(QUERIES.add_model, row).fetchone() or {}
            self.connection.execute(QUERIES.map_model, {"old": row["id"], "new": there["id"]})
            if there["id"] in known:
                _refuse_other_inputs(row, known[there["id"]])
            else:
                self.connection.execute(
                    QUERIES.set_preparation, {"preparation": Jsonb(row["preparation"]), "model_id": there["id"]}
                )
                grant_vectors(self.connection, f"embedding_vectors_{there['id']}")
                self.connection.execute(QUERIES.keep_in_step, {"kept": row["kept_in_step"], "id": there["id"]})
                made += 1
        return {"made": made}

    def _active_model(self) -> Loaded:
        made = self.connection.execute(QUERIES.load_active_model).rowcount
        for row in self.connection.execute(QUERIES.other_active_model).fetchall():
            self.warnings.append(f"the active model stays {row['here']}; the backup's was {row['there']} (`embedq model`)")
        return {"made": made}

    def _sources(self) -> Loaded:
        """A source is not attached here: its table may be in another database. Its rows and vectors wait until the printed command is run."""
        rows = self.connection.execute(QUERIES.staged_sources_not_here).fetchall()
        self.warnings += [
            f"the source {row['name']} is not attached here: `{command_of(row['given'])}` takes its rows over" for row in rows
        ]
        return {"not attached here": len(rows)}

    def _articles(self) -> Loaded:
        self.connection.execute(QUERIES.staged_articles_have_a_source)  # backups of an earlier version have none
        # No tasks are made here: a text whose vector comes next needs none, and reconcile finds the others.
        self.connection.execute(
            QUERIES.transaction_settings, {"priority": "", "reason": "restore", "mode": "off", "dispatch": ""}
        )
        counts = {"made": 0, "put back": 0}
        for row in self.connection.execute(QUERIES.load_articles).fetchall():
            counts[row["became"]] += 1
        return counts

    def _vectors(self) -> Loaded:
        self.connection.execute(QUERIES.hold_staged_articles)
        won = self.connection.execute(QUERIES.load_embeddings).fetchall()
        pairs = {"articles": [row["article_id"] for row in won], "models": [row["model_id"] for row in won]}
        self.connection.execute(QUERIES.drop_replaced_vectors, pairs)
        return {"made": self.connection.execute(QUERIES.load_vectors, pairs).rowcount}

    def _tasks(self) -> Loaded:
        self._move_ids("embedding_tasks")
        revived = self.connection.execute(QUERIES.revive_staged_tasks).rowcount
        rest = [name for name in self._staged["embedding_tasks"] if name not in SET_BY_LOADING]
        parts = {"rest": listed(rest), "s_rest": sql.SQL(", ").join(sql.Identifier("s", name) for name in rest)}
        return {"made": self._formatted("load_tasks", **parts), "revived": revived}

    def _audit(self) -> Loaded:
        self._move_ids("embedding_audit_logs")
        return self._counted(QUERIES.load_audit)

    def _live_row(self) -> Loaded:
        if not self.live_row:
            return {"left as it is here": 1}
        row = self.connection.execute(QUERIES.staged_live_row).fetchone()
        if row is None:
            return {"put back": 0}
        state = LiveState.of(row | {"reason": "restored from a backup", "changed_by": "restore"})
        values = {name: getattr(state, name) for name in COLUMNS if name in row}
        change = Change(values, "restore", "the live row is as the backup has it", {"who": "restore"})
        self._fence.change("restore", lambda _: change)
        return {"put back": 1}

    def _move_ids(self, table: str) -> None:
        staged = sql.SQL("SELECT max(id) AS highest FROM {}").format(sql.Identifier(f"staged_{table}"))
        row = self.connection.execute(staged).fetchone() or {}
        self.connection.execute(QUERIES.ids_after, {"table": table, "highest": row["highest"]})

    def _rejected(self) -> Loaded:
        columns = [name for name in self._staged["embedding_rejected_messages"] if name != "id"]
        return {"made": self._formatted("load_rejected", columns=listed(columns))}

    def _plain(self, statement: str, table: str) -> Loaded:
        return {"made": self._formatted(statement, columns=listed(self._staged[table]))}

    def _formatted(self, statement: str, **parts: sql.Composable) -> int:
        return self.connection.execute(sql.SQL(getattr(QUERIES, statement)).format(**parts)).rowcount

    def _counted(self, statement: str) -> Loaded:
        return {"made": self.connection.execute(statement).rowcount}


def _refuse_other_inputs(staged: Row, here: Mapping[str, Any]) -> None:
    there = of_register(staged["preparation"])
    if not same_prefixes(there, of_register(here)):
        raise InputError(
            f"the model {staged['provider']}/{staged['name']} of the backup has other prefixes ({inputs_told(there) or 'none'}) than the one here:"
            " their vectors cannot be mixed",
            hint="restore into a database of its own, or drop the model that is here first (`embedq model drop`)",
        )


@contextmanager
def _told_of_rows(table: str) -> Iterator[None]:
    """PostgreSQL's error about a row that does not fit, as an InputError; errors about a missing schema are not changed."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        raise
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as wrong:
        raise InputError(
            f"the backup's rows of {table} cannot be brought back: {first_line(wrong)[:200]}",
            hint="nothing of this step was stored; the file was made by another program or version",
        ) from wrong
