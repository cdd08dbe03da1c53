"""`embedq db upgrade|downgrade|verify`: the schema by Alembic, one at a time; in steps beside what runs (`stepwise.py`), a new one all at once."""

from __future__ import annotations

import random
import re
import time
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import tuple_row

from ..addresses import shown
from ..decide import refusals
from ..decide.refusals import first_line
from ..errors import InputError, NotWell, StoreRefused, StoreUnavailable
from . import home, stepwise
from .database import Database
from .partitions import lock_holders
from .remains import drops
from .search import version_of
from .sessions import GIVES_WAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alembic.config import Config

LATEST = "0012"
REVISION = re.compile(r"head|base|[+-][0-9]{1,2}|[0-9]{4}")
REVISIONS = f"name head, base or one of 0001 to {LATEST}"
OLDEST_POSTGRES = 140000
OLDEST_PGVECTOR = (0, 7)
PATIENCE_S = 20.0
LOCK = "SELECT pg_advisory_lock(hashtextextended('embedq.schema', 0))"


def upgrade(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the schema to `revision`; returns the revisions before and after. Raises StoreUnavailable with the cause."""
    from alembic import command

    check_revision(revision)

    if revision == "head" and (now := current(database)) and now > LATEST:
        return now, now  # made by a later version

    def up(config: Config) -> None:
        home.settle(config.attributes["connection"], database.url)
        command.upgrade(config, revision)

    before, _ = _changed(database, up, way="up", at_once=current(database) is None)
    database.close()  # sessions that began before embedq had its schema look elsewhere for it
    return before, current(database)


def downgrade(database: Database, revision: str = "base", *, keep_articles: bool = False) -> tuple[str | None, str | None]:
    """Go back to `revision`. At `base` nothing of embedq's is left, except with `keep_articles` a plain table `articles`."""
    from alembic import command

    check_revision(revision)
    before, _ = _changed(
        database,
        lambda config: command.downgrade(config, revision),
        way="down",
        at_once=revision == "base",
        keep_articles=keep_articles,
    )
    if revision == "base":
        database.execute("DROP TABLE IF EXISTS embedq_schema_version")
        home.leave(database)
        database.close()
    return before, current(database)


def check_revision(name: str) -> None:
    """Alembic accepts other forms too, and fails with an assertion for an empty one."""
    if not REVISION.fullmatch(name):
        raise InputError(f"{name!r} is no revision of the schema", hint=REVISIONS, field="revision")


def _changed(
    database: Database, change: Callable[[Config], None], *, way: str, **attributes: Any
) -> tuple[str | None, str | None]:
    """No statement waits for a lock longer than GIVES_WAY, so that no reader or writer waits behind it for longer; what does not get its lock
    is tried again, for PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with _alembic(database, **attributes) as config:
                stepwise.refuse_half_done(config.attributes["connection"].connection.driver_connection, way)
                before = current(database)
                change(config)
            return before, current(database)
        except psycopg.errors.LockNotAvailable as busy:
            if time.monotonic() > deadline:
                raise _in_use(database) from busy
            time.sleep(random.uniform(0.1, 0.5))


def _in_use(database: Database) -> NotWell:
    return NotWell(
        f"the schema of {shown(database.url)} was not changed any further: its tables are in use by {lock_holders(database, RELATIONS)}",
        hint="what runs goes on; end that session or wait for it, and run the same command again: it goes on where it stopped",
    )


def fits(revision: str | None) -> bool:
    """Whether this version runs on it: on its own, and on what later versions make of it (docs/howto/upgrade.rst)."""
    return revision is not None and revision >= LATEST


def current(database: Database) -> str | None:
    """The schema's revision, None when embedq is not set up here."""
    # In our own schema only: another one further down the search path may have an embedq as well.
    if database.one("SELECT to_regclass(quote_ident(current_schema()) || '.embedq_schema_version') AS found") == {
        "found": None
    }:
        return None
    row = database.one("SELECT version_num FROM embedq_schema_version")
    return row["version_num"] if row else None


def where(database: Database) -> str | None:
    """The name of the schema that embedq's statements use."""
    row = database.one("SELECT current_schema() AS name")
    return row["name"] if row else None


@contextmanager
def _alembic(database: Database, **attributes: Any) -> Iterator[Config]:
    import sqlalchemy as sa
    from alembic.config import Config
    from alembic.util import CommandError

    check_server(database)
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: _plain_connection(database), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(LOCK)
            config = Config()
            config.set_main_option("script_location", str(files("embedq.store.migrations")))
            config.attributes.update(attributes, connection=connection)
            yield config
    except sa.exc.DBAPIError as failed:
        if isinstance(failed.orig, psycopg.errors.LockNotAvailable):
            raise failed.orig from None
        raise _unchanged(database, failed.orig or failed) from failed
    except psycopg.Error as failed:  # of a migration's script, which psycopg runs itself
        if refusals.of_sqlstate(failed.sqlstate) is None:
            raise
        raise _unchanged(database, failed) from failed
    except CommandError as unknown:
        raise InputError(f"the schema cannot go there: {unknown}", hint=REVISIONS) from unknown
    finally:
        engine.dispose()


def _left_over(database: Database) -> str:
    """As text; empty if there are no remains of an earlier embedq."""
    statements = drops(database, RELATIONS) if current(database) is None else []
    return (
        f"left over of an earlier embedq, to be looked at and dropped by their owner: {'; '.join(statements)}"
        if statements
        else ""
    )


def _unchanged(database: Database, why: BaseException) -> StoreUnavailable:
    refused = refusals.of_sqlstate(getattr(why, "sqlstate", None))
    kind, step = (
        (StoreUnavailable, "put right what it names and run the same command again")
        if refused is None
        else (StoreRefused, _left_over(database) or refused.hint)
    )
    return kind(f"the schema of {shown(database.url)} was not changed: {first_line(why)}", hint=f"what runs goes on; {step}")


def _plain_connection(database: Database) -> psycopg.Connection[Any]:
    """A session of ours as SQLAlchemy expects one: rows are tuples, and it begins transactions itself."""
    connection: psycopg.Connection[Any] = database.connect(
        name="embedq schema", idle_in_transaction_session_timeout="0", lock_timeout=GIVES_WAY
    )
    connection.row_factory, connection.autocommit = tuple_row, False
    return connection


def check_server(database: Database) -> None:
    """PostgreSQL 14 or later, with pgvector 0.7 or later to be had. Raises StoreUnavailable saying what is missing."""
    row = database.one(
        "SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,"
        " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS vector,"
        " (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed"
    )
    assert row is not None
    if row["version"] < OLDEST_POSTGRES:
        raise StoreUnavailable(f"PostgreSQL at {shown(database.url)} is older than 14", hint="use PostgreSQL 14 or later")
    if row["encoding"] == "SQL_ASCII":
        raise StoreUnavailable(
            f"the database at {shown(database.url)} has the encoding SQL_ASCII: PostgreSQL keeps bytes of unknown meaning there, not text",
            hint="make one whose encoding is known, and name it in DATABASE_URL: CREATE DATABASE … ENCODING 'UTF8' LOCALE 'C.UTF-8'"
            " TEMPLATE template0",
        )
    if not row["vector"]:
        raise StoreUnavailable(
            f"PostgreSQL at {shown(database.url)} lacks the extension pgvector",
            hint="install it on the server (Debian: postgresql-NN-pgvector), or leave DATABASE_URL empty to use the embedded server",
        )
    if row["installed"] and version_of(row["installed"]) < OLDEST_PGVECTOR:
        raise StoreUnavailable(
            f"the extension pgvector of {shown(database.url)} is {row['installed']}, older than 0.7, which has halfvec",
            hint="install a newer one on the server, then in this database: ALTER EXTENSION vector UPDATE",
        )


RELATIONS = [
    "articles",
    "embedq_articles",
    "article_texts",
    "article_versions",
    "embeddings",
    "embedding_vectors",
    "embedding_models",
    "embedding_canaries",
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
    "embedding_tokens",
    "embedding_sources",
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
