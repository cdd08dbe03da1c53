"""A database in which every text that other people and programs can write is hostile to whoever reads it on a terminal.

The columns come from information_schema: one that is new is written without a change here, and a table without rows fails.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

FORGED = "FORGED: all is well"
HOSTILE = f"\n{FORGED}\n  next: {FORGED}\r\x1b[2J\x1bc\x1b]0;title\x07\t\x7f\x85\x9b31m\u061c\u200e\u202e\u2028\u2029\u2066\ufeff\u200b\u00ad\U000e0041"
# What no command may write. Not by embedq.visible: a mistake there would be one here.
CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Words of embedq's own, which its code reads and nobody else writes; names that lead to a provider or a model.
OWN_COLUMNS = {
    "embedding_audit_logs.category",
    "embedding_audit_logs.level",
    "embedding_budgets.provider",
    "embedding_models.name",
    "embedding_models.provider",
    "embedding_models.storage",
    "embedding_providers.name",
    # A source's name has letters and digits alone; its expressions are SQL, checked when it was attached.
    "article_texts.source",
    "embedding_sources.columns",
    "embedding_sources.condition",
    "embedding_sources.content",
    "embedding_sources.given",
    "embedding_sources.key_types",
    "embedding_sources.metadata_columns",
    "embedding_sources.name",
    "embedding_sources.outcome",
    "embedding_sources.priority",
    "embedding_sources.progress",
    "embedding_sources.tenant",
    "embedding_sources.title",
    "embedding_tokens.scope",
    "embedding_tokens.source",
    "embedding_tasks.delivery",
    "embedding_tasks.priority",
    "embedding_tasks.status",
    "embedding_worker_status.mode",
    "embedding_worker_status.paused_priorities",
    "embedding_workers.delivery",
    "embedding_workers.mode_seen",
    "embedq_schema_version.version_num",
    "performance_metrics.metric",
}
# Of embedq's own in JSON.
OWN_KEYS = {
    "kind",
    "state",
    "step",
    "run",
    "mode_before",
    "mode",
    "at",
    "from",
    "until",
    "began_at",
    "ended_at",
    "delivery",
    "traceparent",
}
COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
JOIN pg_class t ON t.relname = c.table_name AND t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition
WHERE c.table_schema = 'public' AND (c.data_type IN ('text', 'character varying', 'jsonb') OR c.udt_name = '_text')
ORDER BY 1, 2"""


def seen(output: str, allowed: str = "\n") -> list[str]:
    """What in the output a terminal would obey or hide."""
    return sorted({hex(ord(each)) for each in output if unicodedata.category(each) in CATEGORIES and each not in allowed})


def forged(output: str) -> list[str]:
    """Lines that a text has made, and not the program."""
    return [line for line in output.splitlines() if line.strip().removeprefix("next: ") == FORGED]


def make_hostile(admin_url: str) -> list[str]:
    """Every text becomes hostile, references stay what they were: the same is added everywhere. Returns the columns."""
    with psycopg.connect(admin_url) as connection:
        connection.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
        columns = connection.execute(COLUMNS).fetchall()
        named = {f"{table}.{column}": (table, column, kind) for table, column, kind in columns}
        assert named.keys() >= OWN_COLUMNS, OWN_COLUMNS - named.keys()
        written = [name for name in named if name not in OWN_COLUMNS]
        empty = [name for name in written if not _write(connection, *named[name])]
    assert not empty, f"nothing in {empty}: the world of this test must have a row with them"
    return written


def _write(connection: psycopg.Connection[Any], table: str, column: str, kind: str) -> int:
    if kind == "jsonb":
        return _write_json(connection, table, column)
    value = "{0} || %(hostile)s" if kind != "ARRAY" else "ARRAY(SELECT each || %(hostile)s FROM unnest({0}) each)"
    where = "{0} IS NOT NULL" if kind != "ARRAY" else "{0} <> '{{}}'"
    statement = f"UPDATE {{1}} SET {{0}} = {value} WHERE {where}"
    made = sql.SQL(statement).format(sql.Identifier(column), sql.Identifier(table))  # type: ignore[arg-type]
    return connection.execute(made, {"hostile": HOSTILE}).rowcount


def _write_json(connection: psycopg.Connection[Any], table: str, column: str) -> int:
    names = (sql.Identifier(column), sql.Identifier(table))
    rows = connection.execute(sql.SQL("SELECT ctid, {0} FROM {1} WHERE {0} IS NOT NULL").format(*names)).fetchall()
    changed = [(row, made) for row, value in rows if (made := _hostile(value)) != value]
    for row, made in changed:
        connection.execute(sql.SQL("UPDATE {1} SET {0} = %s WHERE ctid = %s").format(*names), (Jsonb(made), row))
    return len(changed)


def _hostile(value: Any) -> Any:
    match value:
        case str():
            return value + HOSTILE
        case list():
            return [_hostile(each) for each in value]
        case dict():
            return {key: each if key in OWN_KEYS else _hostile(each) for key, each in value.items()}
        case _:
            return value
