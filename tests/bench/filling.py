"""Rows by the million, made inside PostgreSQL: what a large installation has after a year, without the year."""

from __future__ import annotations

from .world import Yard

# Two digits of a tenant in three hundred: a few large ones and many small.
ARTICLES = (
    "INSERT INTO article_texts (id, tenant_id, title, content)"
    " SELECT 'a' || n, 'tenant' || (n %% 7), 'Article ' || n, 'some short text ' || n FROM generate_series(%s::int, %s::int) n"
)


def articles(yard: Yard, first: int, last: int) -> None:
    """Articles a{first} to a{last}, without tasks and without history."""
    yard.sql("ALTER TABLE article_texts DISABLE TRIGGER USER")
    yard.sql(ARTICLES, first, last)
    yard.sql("ALTER TABLE article_texts ENABLE TRIGGER USER")


def embedded(yard: Yard, first: int, last: int) -> None:
    """Every article of these embedded: its fact, its vector, its finished task."""
    yard.sql(
        "INSERT INTO embeddings (model_id, article_id, version, text_hash, chunks, tokens)"
        " SELECT active.model_id, a.id, a.version, a.text_hash, 1, 8 FROM article_texts a, embedding_active_model active"
        " WHERE substr(a.id, 2)::int BETWEEN %s AND %s",
        first,
        last,
    )
    yard.sql(
        "INSERT INTO embedding_vectors (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding)"
        " SELECT e.model_id, e.article_id, 0, 'default', e.text_hash, 0, 10,"
        " array_fill(0.1::real, ARRAY[m.dimensions])::vector FROM embeddings e JOIN embedding_models m ON m.id = e.model_id"
        " WHERE substr(e.article_id, 2)::int BETWEEN %s AND %s",
        first,
        last,
    )
    finished(yard, first, last)


def finished(yard: Yard, first: int, last: int) -> None:
    """Completed tasks of articles a{first} to a{last}."""
    yard.sql(
        "INSERT INTO embedding_tasks (article_id, tenant_id, model_id, status, claims, attempts, delivery, metadata,"
        " created_at, processed_at, completed_at)"
        " SELECT 'a' || n, 'tenant' || (n %% 7), active.model_id, 'completed', 1, 1, 'poller', '{\"reason\": \"create\"}',"
        " now() - interval '2 days', now() - interval '1 day', now() - interval '1 day'"
        " FROM generate_series(%s::int, %s::int) n, embedding_active_model active",
        first,
        last,
    )


def waiting(yard: Yard, first: int, last: int, priority: str = "normal") -> None:
    """Free tasks of articles a{first} to a{last}, oldest first."""
    yard.sql(
        "INSERT INTO embedding_tasks (article_id, tenant_id, model_id, priority, metadata, created_at, scheduled_at)"
        " SELECT 'a' || n, 'tenant' || (n %% 7), active.model_id, %s, '{\"reason\": \"create\"}', now() - interval '1 hour',"
        " now() - interval '1 hour' + n * interval '1 microsecond' FROM generate_series(%s::int, %s::int) n, embedding_active_model active",
        priority,
        first,
        last,
    )


def settle_down(yard: Yard) -> None:
    """What autovacuum has done in a database that is not minutes old."""
    for table in ("article_texts", "embeddings", "embedding_vectors", "embedding_tasks"):
        yard.sql(f"VACUUM (ANALYZE) {table}")
