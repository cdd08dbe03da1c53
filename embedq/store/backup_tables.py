"""The tables and columns of a backup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from .database import Connection
from .queries import QUERIES

# In the order of restoring: texts, then vectors, then tasks, so that nothing is embedded twice. The live row comes last.
TABLES = (
    "embedding_models",
    "embedding_active_model",
    "article_versions",
    "article_texts",
    "embedding_vectors",
    "embedding_tasks",
    "embedding_rejected_messages",
    "embedding_usage",
    "embedding_audit_logs",
    "embedding_sources",
    "embedding_worker_status",
)
PARTS = {"articles": ("article_versions", "article_texts"), "vectors": ("embedding_vectors",)}
OF_VECTORS = {
    "article_id": "text",
    "model_id": "integer",
    "chunk": "integer",
    "chunk_hash": "bytea",
    "starts_at": "integer",
    "ends_at": "integer",
    "embedding": "vector",
    "text_hash": "bytea",
    "version": "integer",
    "tokens": "integer",
    "embedded_at": "timestamptz",
}
# A webhook's address may hold a secret.
LEFT_OUT = {"embedding_worker_status": {"maintenance"}}


def tables_of(parts: Sequence[str]) -> list[str]:
    """The tables of a backup with these parts, in order."""
    optional = {table: part for part, tables in PARTS.items() for table in tables}
    return [table for table in TABLES if optional.get(table) in (None, *parts)]


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    """The columns that can be written, with their types."""
    rows: list[Any] = connection.execute(QUERIES.columns_of, {"table": table}).fetchall()
    return {row["name"]: row["type"] for row in rows if row["name"] not in LEFT_OUT.get(table, ())}


def listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
