"""The tools for the history of articles: list, read and restore versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from ..decide.access import Principal
from ..errors import NotFound
from ..store.database import Row
from .articles import Listed, OfArticle, facts_of
from .parts import Parts
from .tool import READ, WRITE, Gives, tool


class Version(Gives):
    version: int
    title: str
    characters: int
    written_at: datetime
    superseded_at: datetime | None = Field(description="Null for the newest.")
    deleted: bool


class Versions(Gives):
    article_id: str
    versions: list[Version]


@tool(READ)
def list_versions(parts: Parts, principal: Principal, wanted: OfArticle) -> Versions:
    """The history of an article, the newest last, without the texts (get_version has them). A deleted article is found by its id."""
    key, rows = _history(parts, wanted.article, wanted.of(principal))
    return Versions(article_id=key, versions=[_version(row) for row in rows])


def _version(row: Row) -> Version:
    return Version(
        version=row["version_number"],
        title=row["title"],
        characters=len(row["content"]),
        written_at=row["created_at"],
        superseded_at=row["superseded_at"],
        deleted=row["deleted"],
    )


def _history(parts: Parts, key: str, tenant: str) -> tuple[str, list[Row]]:
    """The article's id and every text it had, the newest last. Raises NotFound."""
    article_id, newest, rows = parts.client.store.articles.history(key, tenant_id=tenant)
    if newest is not None:
        rows = [
            *rows,
            {
                "version_number": newest.version,
                "title": newest.title,
                "content": newest.content,
                "slug": newest.slug,
                "metadata": newest.metadata,
                "created_at": newest.updated_at,
                "superseded_at": None,
                "deleted": False,
            },
        ]
    if not rows:
        raise NotFound(f"there is no article {key!r}", hint="search_articles and list_articles show ids and slugs")
    return article_id, rows


class OneVersion(OfArticle):
    version: int = Field(ge=1, le=2**31 - 1)


class WholeVersion(Version):
    article_id: str
    content: str
    slug: str | None
    metadata: dict[str, Any]


@tool(READ)
def get_version(parts: Parts, principal: Principal, wanted: OneVersion) -> WholeVersion:
    """The text that an article had at an earlier version."""
    key, rows = _history(parts, wanted.article, wanted.of(principal))
    row = next((each for each in rows if each["version_number"] == wanted.version), None)
    if row is None:
        kept = ", ".join(str(each["version_number"]) for each in rows)
        raise NotFound(f"{key} has no version {wanted.version}", hint=f"versions kept: {kept}")
    return WholeVersion(
        **_version(row).model_dump(), article_id=key, content=row["content"], slug=row["slug"], metadata=dict(row["metadata"])
    )


@tool(WRITE, destroys=True)
def restore_version(parts: Parts, principal: Principal, wanted: OneVersion) -> Listed:
    """Bring back an earlier text of an article, as its newest version; or a deleted article, by its id. The text that it replaces stays in
    the history."""
    article = parts.client.restore(wanted.article, wanted.version, tenant_id=wanted.of(principal))
    return Listed(**facts_of(article))
