"""The tools that search, and that say how far an article's embedding is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import anyio
import anyio.to_thread
from pydantic import Field

from ..decide.access import Principal
from ..decide.answers import WINDOW
from ..decide.filters import MAX_FILTER_KEYS
from ..errors import NotWell
from ..model import Hit
from ..operations.embedding_status import state_of
from .articles import OfArticle, OfTenant, Status
from .parts import Parts
from .tool import READ, Gives, Progress, tool

LOOK_EVERY_S = 0.25
ROOM = Field(6000, ge=200, le=100_000, description="A bound for all snippets together; the last results are left out.")
Query = Annotated[str, Field(min_length=1, max_length=10_000)]


class SearchArticles(OfTenant):
    query: Query | Annotated[list[Query], Field(min_length=1, max_length=10)] = Field(
        description="What to find, in words; or up to ten queries at once, which are answered one by one."
    )
    k: int = Field(5, ge=1, le=50, description="How many results for each query, at most.")
    source: str | None = Field(
        None, max_length=200, description="Rows of this attached table, or `all`; without it, what was written as articles."
    )
    filter: dict[str, Any] = Field(
        default_factory=dict, max_length=MAX_FILTER_KEYS, description="Only articles whose metadata has all of these values."
    )
    min_score: float | None = Field(None, ge=-1, le=1, description="Leave out results below this cosine similarity.")
    hybrid: bool = Field(False, description="Rank by meaning and by words together: for names, codes and error numbers.")
    offset: int | None = Field(None, ge=0, lt=WINDOW, description="How many results stand before this page.")
    fold: bool = Field(False, description="Articles of the same content are one result.")
    max_characters: int = ROOM


class SimilarArticles(OfArticle):
    k: int = Field(5, ge=1, le=50, description="How many results, at most.")
    min_score: float | None = Field(None, ge=-1, le=1, description="Leave out results below this cosine similarity.")
    fold: bool = Field(False, description="Articles of the same content are one result.")
    max_characters: int = ROOM


class Found(Gives):
    article_id: str
    slug: str | None
    title: str
    snippet: str
    score: float = Field(description="Cosine similarity, -1 to 1.")
    path: list[str] = Field(description="Headings above the passage, the outermost first: what get_article takes as `section`.")


class Answered(Gives):
    query: str
    results: list[Found]
    left_out: int = Field(description="How many more there are, beyond max_characters.")


class Results(Gives):
    answers: list[Answered] = Field(description="One for each query, in their order.")


@tool(READ, searches=True)
def search_articles(parts: Parts, principal: Principal, wanted: SearchArticles) -> Results:
    """Find articles by meaning: the nearest passages with their scores, as snippets. Read the whole text of a result with get_article. What
    was saved a moment ago may not be embedded yet (embedding_status)."""
    queries = [wanted.query] if isinstance(wanted.query, str) else wanted.query
    found = parts.client.search_many(
        queries,
        wanted.k,
        tenant_id=wanted.of(principal),
        min_score=wanted.min_score,
        filter=wanted.filter,
        hybrid=wanted.hybrid,
        offset=wanted.offset,
        fold=wanted.fold,
        source=wanted.source,
    )
    room, answers = wanted.max_characters, []
    for query, hits in zip(queries, found, strict=True):
        answers.append(_answered(query, hits, room))
        room -= sum(_size(hit) for hit in hits[: len(answers[-1].results)])
    return Results(answers=answers)


@tool(READ)
def similar_articles(parts: Parts, principal: Principal, wanted: SimilarArticles) -> Answered:
    """Find articles that are near one article, best first, without itself; no query is needed."""
    hits = parts.client.more_like(
        wanted.article, wanted.k, tenant_id=wanted.of(principal), min_score=wanted.min_score, fold=wanted.fold
    )
    return _answered(wanted.article, hits, wanted.max_characters)


def _answered(query: str, hits: list[Hit], room: int) -> Answered:
    kept = _within(hits, room)
    found = [
        Found(article_id=h.article_id, slug=h.slug, title=h.title, snippet=h.snippet, score=h.score, path=[*h.path])
        for h in kept
    ]
    return Answered(query=query, results=found, left_out=len(hits) - len(kept))


def _size(hit: Hit) -> int:
    return len(hit.title) + len(hit.snippet) + sum(map(len, hit.path))


def _within(hits: list[Hit], room: int) -> list[Hit]:
    """The first of them that fit."""
    kept: list[Hit] = []
    for hit in hits:
        room -= _size(hit)
        if room < 0:
            break
        kept.append(hit)
    return kept


class Embedding(Gives):
    article_id: str
    version: int
    embedded: bool = Field(description="Whether search finds the newest text.")
    status: Status
    waiting_since: datetime | None = Field(description="Since when the newest text waits; null when it is embedded.")
    expected_in_s: float | None = Field(
        description="An estimate in seconds; null when none can be made (`waits_for` says why)."
    )
    waits_for: str | None
    retry_at: datetime | None = Field(description="When it is tried again after an error.")
    error: str | None = Field(description="The class of the last error.")


@tool(READ)
def embedding_status(parts: Parts, principal: Principal, wanted: OfArticle) -> Embedding:
    """Whether an article's newest text is embedded, so that search finds it; if not, since when it waits, and about when it will be."""
    return _embedding(parts, wanted.article, wanted.of(principal))


def _embedding(parts: Parts, key: str, tenant: str) -> Embedding:
    article = parts.client.get(key, tenant_id=tenant)
    state = state_of(parts.client.store, parts.pace, article)
    ready = state.status == "ready"
    return Embedding(
        article_id=article.id,
        version=article.version,
        embedded=ready,
        status=state.status,  # type: ignore[arg-type]
        waiting_since=None if ready else article.updated_at,
        expected_in_s=state.eta_s,
        waits_for=state.waits_for,
        retry_at=state.retry_at,
        error=state.error,
    )


class WaitUntilEmbedded(OfArticle):
    timeout_s: float = Field(60.0, gt=0, le=600)


@tool(READ, lasts=True)
async def wait_until_embedded(parts: Parts, principal: Principal, wanted: WaitUntilEmbedded, progress: Progress) -> Embedding:
    """Wait until search finds an article's newest text, at most `timeout_s`; then say what embedding_status says. Ends early where waiting
    is no use: the text failed or was skipped."""
    tenant, started = wanted.of(principal), anyio.current_time()
    try:
        parts.waiters.acquire_nowait()
    except anyio.WouldBlock:
        raise NotWell("too many wait already", hint="ask embedding_status now and then instead") from None
    try:
        while True:
            seen = await anyio.to_thread.run_sync(
                _embedding, parts, wanted.article, tenant, limiter=parts.threads, abandon_on_cancel=True
            )
            waited_s = anyio.current_time() - started
            if seen.status in ("ready", "failed", "skipped") or waited_s >= wanted.timeout_s:
                return seen
            await progress(
                waited_s, wanted.timeout_s, seen.waits_for or f"{seen.status}, about {seen.expected_in_s or 0:.0f} s to go"
            )
            await anyio.sleep(min(LOOK_EVERY_S, wanted.timeout_s - waited_s))
    finally:
        parts.waiters.release()
