"""`embedq db upgrade|downgrade|verify`: the schema by Alembic, one at a time, all or nothing."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg

from ..errors import StoreUnavailable
from .database import Database, first_line, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config

LATEST = "0004"
OLDEST_POSTGRES = 140000
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('embedq.schema', 0))"


def upgrade(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the schema to `revision`; returns the revisions before and after. Raises StoreUnavailable with the cause."""
    from alembic import command

    with _alembic(database) as config:
        before = current(database)
        command.upgrade(config, revision)
    return before, current(database)


def downgrade(database: Database, revision: str = "base", *, keep_articles: bool = False) -> tuple[str | None, str | None]:
    """Go back to `revision`. At base nothing of embedq's is left; with `keep_articles` a plain table `articles` is."""
    from alembic import command

    with _alembic(database, keep_articles=keep_articles) as config:
        before = current(database)
        command.downgrade(config, revision)
    if revision == "base":
        database.execute("DROP TABLE IF EXISTS embedq_schema_version")
    return before, current(database)


def current(database: Database) -> str | None:
    """The schema's revision, None when embedq is not set up here."""
    # In our own schema only: another one further down the search path may have an embedq as well.
    if database.one("SELECT to_regclass(quote_ident(current_schema()) || '.embedq_schema_version') AS found") == {
        "found": None
    }:
        return None
    row = database.one("SELECT version_num FROM embedq_schema_version")
    return row["version_num"] if row else None


@contextmanager
def _alembic(database: Database, **attributes: Any) -> Iterator[Config]:
    import sqlalchemy as sa
    from alembic.config import Config

    check_server(database)
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database.url), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(LOCK)
            config = Config()
            config.set_main_option("script_location", str(files("embedq.store.migrations")))
            config.attributes.update(attributes, connection=connection)
            yield config
    except sa.exc.DBAPIError as failed:
        raise StoreUnavailable(
            f"the schema of {shown(database.url)} was not changed: {first_line(failed.orig or failed)}",
            hint="nothing is half done (one transaction); put right what it names and run the same command again",
        ) from failed
    finally:
        engine.dispose()


def check_server(database: Database) -> None:
    """PostgreSQL 14 or later, with pgvector to be had. Raises StoreUnavailable saying what is missing."""
    row = database.one(
        "SELECT current_setting('server_version_num')::int AS version,"
        " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS vector"
    )
    assert row is not None
    if row["version"] < OLDEST_POSTGRES:
        raise StoreUnavailable(f"PostgreSQL at {shown(database.url)} is older than 14", hint="use PostgreSQL 14 or later")
    if not row["vector"]:
        raise StoreUnavailable(
            f"PostgreSQL at {shown(database.url)} lacks the extension pgvector",
            hint="install it on the server (Debian: postgresql-NN-pgvector), or leave DATABASE_URL empty to use the embedded server",
        )


RELATIONS = [
    "articles",
    "article_texts",
    "article_versions",
    "embeddings",
    "embedding_vectors",
    "embedding_models",
    "embedding_active_model",
    "embedding_providers",
    "embedding_budgets",
    "embedding_usage",
    "embedding_tasks",
    "embedding_worker_status",
    "embedding_workers",
    "embedding_audit_logs",
    "performance_metrics",
    "embedding_rejected_messages",
]
TRIGGERS = [
    "embedq_articles_inserted",
    "embedq_article_edit",
    "embedq_articles_updated",
    "embedq_articles_deleted",
    "embedq_articles_truncated",
    "embedq_fence",
    "embedq_stamp_status",
    "embedq_task_changed_by_hand",
    "embedq_attempts_never_go_down",
]


def missing(database: Database) -> list[str]:
    """Tables and triggers that this version needs and that are not there, or are switched off."""
    rows = database.fetch(
        "SELECT name FROM unnest(%(relations)s::text[]) AS name WHERE to_regclass(name) IS NULL"
        " UNION ALL SELECT 'trigger ' || name FROM unnest(%(triggers)s::text[]) AS name WHERE NOT EXISTS ("
        " SELECT FROM pg_trigger WHERE tgname = name AND tgenabled <> 'D' AND tgrelid = ANY (ARRAY["
        "   to_regclass('article_texts'), to_regclass('embedding_tasks'), to_regclass('embedding_worker_status')]::oid[]))",
        {"relations": RELATIONS, "triggers": TRIGGERS},
    )
    return [row["name"] for row in rows]
