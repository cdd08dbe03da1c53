"""The base schema: articles, tasks, modes, models and vectors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

from embedq.errors import StoreUnavailable
from embedq.store.migrations import run

revision = "0001"
down_revision = None

COLUMNS = ("id", "tenant_id", "slug", "title", "content", "metadata", "created_at", "updated_at")


def upgrade() -> None:
    kept = articles_kept_by_an_earlier_downgrade()
    if kept:
        op.execute("ALTER TABLE articles RENAME TO articles_before_embedq")
    run("0001_up.sql")
    if kept:
        names = ", ".join(COLUMNS)
        op.execute(f"INSERT INTO article_texts ({names}) SELECT {names} FROM articles_before_embedq")
        op.execute("DROP TABLE articles_before_embedq")


def articles_kept_by_an_earlier_downgrade() -> bool:
    here = op.get_bind().scalar(sa.text("SELECT current_schema()"))
    found = (
        {column["name"] for column in sa.inspect(op.get_bind()).get_columns("articles", schema=here)}
        if op_has_articles()
        else set()
    )
    if found and not found >= set(COLUMNS):
        raise StoreUnavailable(
            "this database already has a relation `articles` that is not embedq's",
            hint="use a database or schema of its own for embedq (…?options=-csearch_path%3Dembedq,public in DATABASE_URL), or rename yours",
        )
    return bool(found)


def op_has_articles() -> bool:
    """In our own schema: what stands further down the search path is not in the way."""
    return bool(op.get_bind().scalar(sa.text("SELECT to_regclass(quote_ident(current_schema()) || '.articles') IS NOT NULL")))


def downgrade() -> None:
    run("0001_down.sql")
    if context.config.attributes.get("keep_articles"):
        op.execute("DROP INDEX article_texts_facts")
        op.execute("ALTER TABLE article_texts DROP COLUMN text_hash, DROP COLUMN version")
        op.execute("ALTER TABLE article_texts RENAME TO articles")
    else:
        op.execute("DROP TABLE article_texts")
    op.execute("DROP FUNCTION embedq_text_hash")
