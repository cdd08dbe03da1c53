"""The tools that list, read, create, update and delete articles."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from ..decide.access import DEFAULT_TENANT, Principal, tenant_for
from ..decide.drafts import MAX_ID, MAX_SLUG
from ..decide.sections import section_of, sections
from ..errors import InputError, NotFound
from ..model import Article, Priority
from .parts import Parts
from .tool import ARTICLE, READ, TENANT, WRITE, Gives, Takes, tool

Status = Literal["queued", "processing", "ready", "failed", "skipped"]
Text = Annotated[str, Field(max_length=4_000_000)]
SECTIONS_SHOWN = 200


class OfTenant(Takes):
    tenant: str | None = TENANT

    def of(self, principal: Principal) -> str:
        """The tenant it is about. Raises PermissionError for another than the token's."""
        return tenant_for(principal, self.tenant, DEFAULT_TENANT)


class OfArticle(OfTenant):
    article: str = ARTICLE


class Listed(Gives):
    id: str
    tenant_id: str
    slug: str | None
    title: str
    version: int
    embedding_status: Status
    created_at: datetime
    updated_at: datetime


class ListArticles(OfTenant):
    status: Status | None = Field(None, description="Only articles in this state of embedding.")
    after: str = Field("", max_length=500, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=200)


class Page(Gives):
    articles: list[Listed]
    next: str | None = Field(description="The `after` of the next page; null on the last.")


@tool(READ)
def list_articles(parts: Parts, principal: Principal, wanted: ListArticles) -> Page:
    """List the articles of a tenant in the order of their ids, without their texts. To find some by what they say, use search_articles."""
    rows = parts.client.store.articles.page(
        tenant_id=wanted.of(principal), status=wanted.status, after=wanted.after, limit=wanted.limit + 1
    )
    found = [Listed(**row) for row in rows[: wanted.limit]]
    return Page(articles=found, next=found[-1].id if len(rows) > wanted.limit else None)


class GetArticle(OfArticle):
    section: str | None = Field(None, max_length=1000, description="Only the section under this heading.")
    start: int = Field(0, ge=0, description="The first character wanted, counted from the text's or the section's beginning.")
    length: int = Field(20_000, ge=1, le=4_000_000, description="At most so many characters of the content.")


class Read(Listed):
    content: str
    metadata: dict[str, Any]
    start: int = Field(description="Of the whole text: the character with which `content` begins.")
    characters: int = Field(description="Of the whole text, or of the section that was asked for.")
    next_start: int | None = Field(description="The `start` that goes on; null where `content` reaches the end.")
    sections: list[str] = Field(description=f"The headings of the whole text, at most {SECTIONS_SHOWN}.")


@tool(READ)
def get_article(parts: Parts, principal: Principal, wanted: GetArticle) -> Read:
    """Read an article by id or slug: the whole text, one section by its heading, or a range of characters. A long text comes in pieces:
    go on with `start` = `next_start`. Its `version` is what update_article and delete_article want."""
    article = parts.client.get(wanted.article, tenant_id=wanted.of(principal))
    begins, ends = _bounds(article.content, wanted.section)
    start = min(begins + wanted.start, ends)
    end = min(start + wanted.length, ends)
    return Read(
        **facts_of(article),
        content=article.content[start:end],
        metadata=dict(article.metadata),
        start=start,
        characters=ends - begins,
        next_start=end - begins if end < ends else None,
        sections=[each.title for each in sections(article.content)][:SECTIONS_SHOWN],
    )


def _bounds(text: str, section: str | None) -> tuple[int, int]:
    if section is None:
        return 0, len(text)
    found = section_of(text, section)
    if found is None:
        raise NotFound(f"the article has no section {section!r}", hint="its `sections` are in the answer without `section`")
    return found.starts_at, found.ends_at


def facts_of(article: Article) -> dict[str, Any]:
    return {name: getattr(article, name) for name in Listed.model_fields}


class CreateArticle(OfTenant):
    title: str = Field("", max_length=100_000)
    content: Text = ""
    id: str | None = Field(None, min_length=1, max_length=MAX_ID, description="Made when it is not given.")
    slug: str | None = Field(
        None, min_length=1, max_length=MAX_SLUG, description="A readable name of its own within the tenant."
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="Values that search_articles can filter by.")
    priority: Priority = Priority.NORMAL


@tool(WRITE, repeatable=False)
def create_article(parts: Parts, principal: Principal, wanted: CreateArticle) -> Listed:
    """Save a new article. It is saved at once and embedded in the background: search finds it some seconds later (embedding_status says
    when, wait_until_embedded waits for it)."""
    article = parts.client.create(
        wanted.title,
        wanted.content,
        id=wanted.id,
        slug=wanted.slug,
        tenant_id=wanted.of(principal),
        metadata=wanted.metadata,
        priority=wanted.priority,
        reason="create",
    )
    return Listed(**facts_of(article))


class UpdateArticle(OfArticle):
    version: int = Field(
        ge=1, le=2**31 - 1, description="The version that was read; the update is refused when it is not the newest."
    )
    title: str | None = Field(None, max_length=100_000)
    content: Text | None = Field(None, description="The whole new text.")
    slug: str | None = Field(None, min_length=1, max_length=MAX_SLUG)
    metadata: dict[str, Any] | None = Field(None, description="All of the metadata: what is not in it is gone.")
    priority: Priority = Priority.NORMAL


@tool(WRITE, destroys=True)
def update_article(parts: Parts, principal: Principal, wanted: UpdateArticle) -> Listed:
    """Change an article; what is not named stays as it is. Name the `version` that you read: if someone has changed the text since,
    nothing is written, and the answer says which version it is now. The earlier text stays in list_versions."""
    named = {name: getattr(wanted, name) for name in ("title", "content", "slug", "metadata")}
    changes = {name: value for name, value in named.items() if value is not None}
    if not changes:
        raise InputError("nothing is to be changed", hint="name title, content, slug or metadata", field="content")
    tenant = wanted.of(principal)
    article = _at_version(parts, wanted.article, tenant, wanted.version)
    try:
        edited = parts.client.edit(
            article.id,
            tenant_id=tenant,
            if_version=wanted.version,
            if_updated_at=article.updated_at,
            priority=wanted.priority,
            **changes,
        )
    except NotFound:
        raise _changed(parts.client.get(article.id, tenant_id=tenant), wanted.version) from None
    return Listed(**facts_of(edited))


def _at_version(parts: Parts, key: str, tenant: str, version: int | None) -> Article:
    article = parts.client.get(key, tenant_id=tenant)
    if version is not None and article.version != version:
        raise _changed(article, version)
    return article


def _changed(now: Article, read: int) -> InputError:
    return InputError(
        f"conflict: {now.id} was read at version {read}, and someone has changed it since; it is version {now.version} now",
        hint="read it again with get_article, and repeat the change on what it says now",
        field="version",
    )


class DeleteArticle(OfArticle):
    version: int | None = Field(
        None, ge=1, le=2**31 - 1, description="The version that was read: refused when it is not the newest."
    )


class Deleted(Gives):
    deleted: str = Field(description="The article's id; restore_version brings it back by this until clean-up.")


@tool(WRITE, destroys=True)
def delete_article(parts: Parts, principal: Principal, wanted: DeleteArticle) -> Deleted:
    """Delete an article. Its last text stays in the history for a while: restore_version brings it back by its id."""
    tenant = wanted.of(principal)
    article = _at_version(parts, wanted.article, tenant, wanted.version)
    try:
        parts.client.delete(article.id, tenant_id=tenant, if_version=article.version, if_updated_at=article.updated_at)
    except NotFound:
        raise _changed(parts.client.get(article.id, tenant_id=tenant), article.version) from None
    return Deleted(deleted=article.id)
