"""Three roles, by one command: the owner changes the schema, a worker embeds, an application writes and searches (docs/howto/roles.rst).

A role's kind is recognized by its privileges, so that it also gets privileges on new tables and models.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import psycopg
from psycopg import sql

from ..errors import NotFound, StoreRefused
from .database import Connection, Database
from .queries import QUERIES
from .schema import RELATIONS

WRITE, READ = "SELECT, INSERT, UPDATE, DELETE", "SELECT"
VERSION: Final = "embedq_schema_version"
# Triggers run with the writer's privileges, and a search uses the provider's budget.
APPLICATION: Final = {
    WRITE: ["articles", "article_texts", "article_versions", "embedding_tasks", "embeddings", "embedding_vectors"],
    "SELECT, INSERT, UPDATE": ["embedding_budgets", "embedding_usage", "embedding_canaries"],
    READ: [
        VERSION,
        "embedding_models",
        "embedding_active_model",
        "embedding_workers",
        "embedding_worker_status",
        "embedding_providers",
        "embedding_sources",
        "embedq_articles",
    ],
}


class Kind(StrEnum):
    OWNER = "owner"
    WORKER = "worker"
    APPLICATION = "application"


def grant(database: Database, kind: Kind, role: str, *, create: bool = False) -> list[str]:
    """Give the role its rights; the statements that did. Raises NotFound for a role that is not there, StoreRefused for a right that is
    missing, with what a superuser must run."""
    with database.transaction() as connection:
        if connection.execute(QUERIES.role_exists, {"role": role}).fetchone() != {"found": True}:
            if not create:
                raise NotFound(
                    f"there is no role {role!r}",
                    hint=f"--create makes it, or a superuser does: CREATE ROLE {role} LOGIN PASSWORD '…'",
                )
            _run(connection, sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        return [_run(connection, statement) for statement in _statements(connection, kind, role)]


def renew(database: Database) -> None:
    """After a change of the schema: what is new in it, for all who had rights before."""
    for row in database.fetch(QUERIES.granted_roles):
        grant(database, Kind.WORKER if row["works"] else Kind.APPLICATION, row["role"])


def grant_vectors(connection: Connection, table: str) -> None:
    """Grant on a new model's vectors what roles have on the others'."""
    for row in connection.execute(QUERIES.rights_on_vectors).fetchall():
        connection.execute(f"GRANT {row['rights']} ON {table} TO {row['role']}")


def _run(connection: Connection, statement: sql.Composable) -> str:
    said = statement.as_string(connection)
    try:
        connection.execute(said)
    except psycopg.errors.InsufficientPrivilege as refused:
        raise StoreRefused(
            f"this role may not do it: {refused.diag.message_primary}",
            hint=f"as a superuser: {said}; or run this command as one",
        ) from refused
    return said


def _statements(connection: Connection, kind: Kind, role: str) -> Iterator[sql.Composable]:
    there: dict[str, Any] = connection.execute(QUERIES.to_grant_on, {"relations": [*RELATIONS, VERSION]}).fetchone() or {}
    to = sql.Identifier(role)
    if kind is Kind.OWNER:
        yield sql.SQL("GRANT {} TO {}").format(sql.Identifier(there["owner"]), to)
        return
    for schema in dict.fromkeys((there["home"], there["vector"])):
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), to)
    for rights, names in _rights(kind, there).items():
        if names:
            yield sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), sql.SQL(", ").join(map(sql.SQL, names)), to)
    yield sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(", ").join(map(sql.SQL, there["functions"])), to)


def _rights(kind: Kind, there: dict[str, Any]) -> dict[str, list[str]]:
    """Relations by the rights on them, of those that are there."""
    if kind is Kind.WORKER:
        return {WRITE: [*(name for name in there["relations"] if name != VERSION), *there["vectors"]], READ: [VERSION]}
    given = {rights: [name for name in names if name in there["relations"]] for rights, names in APPLICATION.items()}
    return {**given, WRITE: given[WRITE] + there["vectors"]}
