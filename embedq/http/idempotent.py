"""Idempotency-Key on a create: the same request twice makes one article (docs/why/idempotency.rst).

The article's id is derived from the key, and the insert decides which request was first: there is no table of keys to clean up,
and of two simultaneous requests only one creates the article.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

import psycopg

from ..errors import InputError
from .problems import Refusal

if TYPE_CHECKING:
    from ..client.client import Client
    from ..model import Article
    from ..store.articles import Created
    from .shapes import NewArticle

NAMESPACE = uuid.UUID("6a2f4f0e-3d0c-5b0e-9c56-2f6f0a7d4b11")


def id_for(tenant_id: str, key: str) -> str:
    return str(uuid.uuid5(NAMESPACE, hashlib.sha256(f"{tenant_id}\0{key}".encode()).hexdigest()))


def create_once(client: Client, new: NewArticle, key: str) -> Created | Article:
    """What was created, or the article that was there already. A key that stands for another article is refused (422)."""
    article_id = id_for(new.tenant_id, key)
    if new.id is not None and new.id != article_id:
        raise InputError("the Idempotency-Key decides the id", hint="leave out the id, or the key", field="id")
    if client.store.watch.was_deleted(article_id):
        raise Refusal(
            410,
            "gone",
            "It was deleted",
            "the article of this Idempotency-Key was deleted since",
            "use a new key to write it again",
        )
    try:
        return client.create_with_task(new.draft(article_id), priority=new.priority, reason=new.reason)
    except InputError as taken:
        if not isinstance(taken.__cause__, psycopg.errors.UniqueViolation) or not _same(client, article_id, new):
            raise
        return client.get(article_id, tenant_id=new.tenant_id)


def _same(client: Client, article_id: str, new: NewArticle) -> bool:
    """Whether the article that has this id began as this one. False: there is none, something else was in the way."""
    first = client.store.watch.first_text(article_id, new.tenant_id)
    if first is None:
        return False
    same_text = (first["title"], first["content"]) == (new.title, new.content)
    # Edits of slug and metadata leave no version, so they are compared only if the article was never edited.
    if same_text and (not first["untouched"] or (first["slug"], first["metadata"]) == (new.slug, new.metadata)):
        return True
    raise InputError(
        "this Idempotency-Key was used for another article",
        hint="use a new key for each article, and the same key only to repeat the same request",
        field="Idempotency-Key",
    )
