"""Sources: tables of the user's whose rows are kept embedded. The rules are in functions of migration 0006; this calls them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ..errors import InputError, NotFound, NotWell
from ..model import SourceDraft
from .database import Database, Row
from .partitions import lock_holders
from .queries import QUERIES

PATIENCE_S = 20.0
TRY_AGAIN_S = 0.2
SAMPLED = 1000
# Columns of a source's view besides the key; a column of the key with the same name gets a prefix.
VIEW_ARTICLE = "article_id"
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class Sources:
    def __init__(self, database: Database) -> None:
        self.database = database

    def define(self, draft: SourceDraft) -> Row:
        """The definition that `attach` would store. Changes nothing, and waits for no writer. Raises InputError with the reason of a refusal."""
        return self.database.fetch(QUERIES.source_definition, _parameters(draft))[0]

    def sample(self, draft: SourceDraft) -> Row:
        """Of the first thousand rows: `rows` that were looked at, `articles` they make, their mean `bytes`; of the whole table `counted`, to
        100,000, and `about_rows`."""
        asked = _parameters(draft) | {"rows": SAMPLED}
        with self.database.transaction() as connection:
            parts = connection.execute(QUERIES.source_sample_sql, asked).fetchone() or {}
            statement = QUERIES.source_sample.replace("{articles}", parts["articles"].replace("%", "%%"))
            statement = statement.replace("{table}", parts["table"].replace("%", "%%"))
            try:
                found = connection.execute(statement, {"rows": SAMPLED, "table": parts["table"]}).fetchone()
            except (psycopg.DataError, psycopg.errors.RaiseException) as failed:
                raise InputError(
                    f"a row cannot be read with these expressions: {failed.diag.message_primary}",
                    hint="write them so that every row has a value: nullif(…, 0), CASE, coalesce; or leave such rows out by --where",
                ) from failed
        return found or {}

    def attach(self, draft: SourceDraft, *, patience_s: float = PATIENCE_S) -> str:
        """Make the table a source; its name. Each try waits 200 ms for the table's lock at most. Raises NotWell naming who holds it."""
        table = self.define(draft)
        name = _quoted(table["schema_name"], table["table_name"])
        row = self._patiently(QUERIES.attach_source, _parameters(draft), [name], patience_s)
        return str(row["name"])

    def unhook(self, name: str, *, patience_s: float = PATIENCE_S) -> bool:
        """Take triggers, function and view of a source away; whether there was one. Raises NotWell as `attach` does."""
        tables = [_quoted(row["schema_name"], row["table_name"]) for row in self.all(name)]
        return bool(self._patiently(QUERIES.unhook_source, {"name": name}, tables, patience_s)["known"])

    def _patiently(self, statement: str, parameters: Mapping[str, Any], tables: list[str], patience_s: float) -> Row:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self.database.fetch(statement, parameters)[0]
            except BUSY as busy:
                if time.monotonic() > deadline:
                    raise NotWell(
                        f"{', '.join(tables)} is in use by another session: {lock_holders(self.database, tables)}",
                        hint="nothing was changed, and nothing waits for it; run the same command again when that session has ended",
                    ) from busy
                time.sleep(TRY_AGAIN_S)

    def forget(self, name: str, *, kept: bool = False, bound: int = 1000) -> int:
        """The next articles of a source that was unhooked are removed; how many. 0: none is left. `kept`: those that are embedded stay."""
        row = self.database.one(QUERIES.forget_source, {"name": name, "bound": bound, "kept": kept})
        return int(row["removed"]) if row else 0

    def all(self, name: str | None = None) -> list[Row]:
        """Every source, or the one of this name."""
        return self.database.fetch(QUERIES.sources, {"name": name})

    def one(self, name: str) -> Row:
        """Raises NotFound."""
        for row in self.all(name):
            return row
        raise NotFound(f"there is no source {name!r}", hint="`embedq source list` names them")

    def names(self) -> list[str]:
        return [row["name"] for row in self.database.fetch("SELECT name FROM embedding_sources ORDER BY name")]

    def behind(self) -> list[Row]:
        """Those that missed a write, have rows that cannot be read, or whose table is gone."""
        return self.database.fetch(QUERIES.sources_behind)

    def counts(self, name: str) -> dict[str, int]:
        """Its articles by the state of their embedding."""
        return {row["status"]: row["articles"] for row in self.database.fetch(QUERIES.source_counts, {"name": name})}

    def size(self, name: str) -> Row:
        """How many `articles` and `open_tasks` it has."""
        return self.database.one(QUERIES.count_source, {"name": name}) or {"articles": 0, "open_tasks": 0}

    def open_tasks(self, cap: int) -> int:
        """How many tasks of any article are open, counted up to `cap`."""
        return int(self.database.fetch(QUERIES.open_tasks_up_to, {"cap": cap})[0]["tasks"])

    def step(self, name: str, bound: int) -> Row | None:
        """One step of its comparison with the table; the source afterwards, with `progress` None at the end. None: another process does it.

        Raises psycopg.Error or InputError for an error of the whole source.
        """
        return self.database.one(QUERIES.source_step, {"name": name, "bound": bound})

    def mark_behind(self, name: str, reason: str) -> None:
        self.database.execute(QUERIES.mark_source_behind, {"name": name, "reason": reason})

    def begin_comparison(self, name: str) -> None:
        self.database.execute(QUERIES.begin_comparison, {"name": name})

    def keep_hooked(self, name: str) -> int:
        """Update the table's name if it was renamed; add triggers to new partitions. Returns how many triggers were made."""
        self.database.execute(QUERIES.source_rename, {"name": name})
        row = self.database.one(QUERIES.source_triggers, {"name": name})
        return int(row["made"]) if row else 0

    def differences(self, name: str) -> Row:
        """`missing`, `changed` and `extra` articles, counted over the whole table. Raises NotFound."""
        self.one(name)
        return self.database.fetch(QUERIES.source_differences, {"name": name})[0]

    def import_vectors(self, name: str, column: str, model_id: int, after: Sequence[str] | None, bound: int) -> Row:
        """Vectors out of a column of the next rows behind the key `after`: how many rows were `seen`, the key of the `last`, and what they `became`."""
        key = None if after is None else Jsonb(list(after))
        asked = {"name": name, "column": column, "model_id": model_id, "after": key, "bound": bound}
        return self.database.fetch(QUERIES.import_vectors, asked)[0]

    def keys(self, ids: Sequence[str], sources: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
        """The row's key of each article of a source, column by column, with the types that psycopg has for them."""
        found: dict[str, dict[str, Any]] = {}
        for name, source in sources.items():
            own = [article for article in ids if article.startswith(f"{name}:")]
            for row in self.database.fetch(_keys_statement(source), {"ids": own}) if own else ():
                found[row.pop("embedq_article")] = row
        return found

    def article_of(self, name: str, key: Sequence[str]) -> str:
        """The id of the article of a row's key, given as text, column by column. Raises NotFound for an unknown source, InputError for a key
        of another length."""
        columns = self.one(name)["key_columns"]
        if len(columns) != len(key):
            raise InputError(
                f"the key of {name} has {len(columns)} column(s): {', '.join(columns)}", hint="give one value for each"
            )
        row = self.database.one(QUERIES.source_key_ids, {"name": name, "key": list(key)})
        assert row is not None
        return str(row["id"])


def _parameters(draft: SourceDraft) -> dict[str, Any]:
    given = asdict(draft)
    return given | {"metadata": list(draft.metadata) or None, "key": list(draft.key) or None}


def _keys_statement(source: Row) -> str:
    article = f"embedq_{VIEW_ARTICLE}" if VIEW_ARTICLE in source["key_columns"] else VIEW_ARTICLE
    columns = ", ".join(_quoted(column) for column in source["key_columns"]).replace("%", "%%")
    text = QUERIES.source_keys.replace("{view}", _quoted(f"embedq_{source['name']}")).replace("{columns}", columns)
    return text.replace("{article}", article)


def _quoted(*names: str) -> str:
    """Quote an identifier for SQL."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
