"""/api/articles: create, read, edit, delete, list, batch, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Query, Response

from ..decide.drafts import check_draft
from ..errors import InputError, NotFound
from ..model import Article, ArticleDraft
from ..operations.embedding_status import State, state_of, state_with
from . import article_answers, batches, etags, fields, shapes
from .fields import ArticleKey, TenantQuery
from .idempotent import create_once
from .problems import told
from .routes import AuthorizedRoute
from .searching import found_of
from .service import ARTICLES_BEARER, Service, TheService, no_strange_query

router = APIRouter(
    prefix="/api/articles",
    tags=["articles"],
    route_class=AuthorizedRoute,
    dependencies=[Depends(ARTICLES_BEARER), Depends(no_strange_query)],
)

KEY = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Repeating a create with the same key and body answers as the first time did, and writes nothing.",
    ),
]
TAGGED = "3-6274f1b0c8d40"
IF_MATCH = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description=f'The ETag that was read, e.g. "{TAGGED}": refused (412) if title, content, slug or metadata have changed since.',
    ),
]
IF_NONE_MATCH = Annotated[
    str | None,
    Header(alias="If-None-Match", max_length=1000, description="`*`: refused (412), because an edit never makes an article."),
]
ETAG_OUT: dict[str, Any] = {
    "headers": {
        "ETag": {
            "description": "Stands for title, content, slug and metadata; not for the state of the embedding.",
            "schema": {"type": "string", "examples": [f'"{TAGGED}"']},
        }
    }
}

CREATED: dict[str, Any] = {
    "headers": ETAG_OUT["headers"]
    | {
        "Location": {
            "description": "Where it can be read.",
            "required": True,
            "schema": {"type": "string", "format": "uri-reference"},
        },
        "Idempotent-Replayed": {
            "description": "The Idempotency-Key was sent before; nothing was written.",
            "schema": {"type": "string", "enum": ["true"]},
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Create an article",
    response_model=article_answers.ArticleOut,
    responses={201: CREATED, **told(409, 410)},
)
def create(service: TheService, new: shapes.NewArticle, key: KEY = None) -> Response:
    """Saves the article and a task to embed it in one transaction; waits for neither the broker nor the provider."""
    if key is not None:
        done = create_once(service.client, new, key)
    else:
        done = service.client.create_with_task(new.draft(new.id), priority=new.priority, reason=new.reason)
    if isinstance(done, Article):
        return answered(service, done, 201, _location(done) | {"Idempotent-Replayed": "true"})
    state = state_with(service.pace, done.article, done.task)
    return answered(service, done.article, 201, _location(done.article), state)


@router.get("", summary="List articles", responses=told(422))
def list_articles(
    service: TheService,
    tenant_id: TenantQuery,
    status: Annotated[fields.Status | None, Query(description="Only articles in this state of embedding.")] = None,
    after: Annotated[str, Query(max_length=500, pattern=fields.NO_NUL, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> article_answers.ArticlePage:
    """In the order of ids, without their texts."""
    rows = service.client.store.articles.page(tenant_id=tenant_id, status=status, after=after, limit=limit + 1)
    page = [article_answers.Listed(**row) for row in rows[:limit]]
    return article_answers.ArticlePage(articles=page, next=page[-1].id if len(rows) > limit else None)


@router.post("/batch", status_code=200, summary="Write many articles", responses=told(409))
def write_batch(service: TheService, batch: shapes.Batch) -> article_answers.BatchDone:
    """In one transaction: all are written, or none. At most ARTICLE_BATCH_MAX."""
    return batches.write(service, batch)


@router.get("/{article_id:path}/versions", summary="An article's history", responses=told(404, 422))
def versions(service: TheService, article_id: ArticleKey, tenant_id: TenantQuery) -> article_answers.Versions:
    """All versions of its text, the newest last; also of a deleted article, by its id, until clean-up."""
    key, newest, rows = service.client.store.articles.history(article_id, tenant_id=tenant_id)
    earlier = [_earlier(row) for row in rows]
    if newest is None and not earlier:
        raise NotFound(f"there is no article {article_id!r}", hint="check the id")
    return article_answers.Versions(article_id=key, versions=earlier + ([_newest(newest)] if newest else []))


@router.get("/{article_id:path}/similar", summary="Articles that are near one", responses=told(404, 409, 422))
def similar(
    service: TheService,
    article_id: ArticleKey,
    tenant_id: TenantQuery,
    k: Annotated[int, Query(ge=1, le=100, description="How many results, at most.")] = 10,
    offset: Annotated[int, Query(ge=0, le=100, description="Results before this page.")] = 0,
    min_score: Annotated[float | None, Query(ge=-1, le=1, description="The least `score` of a result.")] = None,
    fold: Annotated[bool, Query(description="Articles of the same content are one result.")] = False,
    diversity: Annotated[float, Query(ge=0, le=1, description="1: as unlike each other as can be.")] = 0.0,
) -> shapes.Results:
    """By its vectors, so that no provider is asked; without itself. 409 while it has no vector."""
    narrow: dict[str, Any] = {"tenant_id": tenant_id, "min_score": min_score}
    hits = service.client.more_like(article_id, k, offset=offset, fold=fold, diversity=diversity, **narrow)
    return shapes.Results(results=found_of(hits))


@router.get(
    "/{article_id:path}",
    summary="Read an article",
    response_model=article_answers.ArticleOut,
    responses={200: ETAG_OUT, **told(404, 422)},
)
def read(service: TheService, article_id: ArticleKey, tenant_id: TenantQuery) -> Response:
    """With the state of its embedding and an estimate of when it will be ready."""
    return answered(service, service.client.get(article_id, tenant_id=tenant_id))


@router.put(
    "/{article_id:path}",
    summary="Edit an article",
    response_model=article_answers.ArticleOut,
    responses={200: ETAG_OUT, **told(404, 409, 412)},
)
def edit(
    service: TheService,
    article_id: ArticleKey,
    changes: shapes.Edit,
    tenant_id: TenantQuery,
    if_match: IF_MATCH = None,
    if_none_match: IF_NONE_MATCH = None,
) -> Response:
    """Changes the given fields; a field that is missing or null stays. A changed text is embedded again; the old one stays in the history."""
    named = {name: getattr(changes, name) for name in ("title", "content", "slug", "metadata")}
    wanted = {name: value for name, value in named.items() if value is not None}
    if not wanted:
        raise InputError("nothing is to be changed", hint="name title, content, slug or metadata", field="body")
    article = service.client.get(article_id, tenant_id=tenant_id)
    if if_match is not None or if_none_match is not None:
        # Validation errors come before the precondition (RFC 9110, 13.2.1).
        check_draft(ArticleDraft(**({"title": article.title, "content": article.content} | wanted)))
    as_read = etags.condition(article, if_match, if_none_match)
    with changed_since_told(service, article, as_read):
        edited = service.client.edit(
            article.id, tenant_id=tenant_id, priority=changes.priority, reason=changes.reason, **as_read, **wanted
        )
    return answered(service, edited)


@router.delete("/{article_id:path}", status_code=204, summary="Delete an article", responses=told(404, 412, 422))
def delete(service: TheService, article_id: ArticleKey, tenant_id: TenantQuery, if_match: IF_MATCH = None) -> None:
    """With its vectors and open tasks. Its last text stays in the history until clean-up."""
    article = service.client.get(article_id, tenant_id=tenant_id)
    as_read = etags.condition(article, if_match)
    with changed_since_told(service, article, as_read):
        service.client.delete(article.id, tenant_id=tenant_id, **as_read)


@contextmanager
def changed_since_told(service: Service, article: Article, as_read: Mapping[str, Any]) -> Iterator[None]:
    """Nothing was written because the article has changed since it was read: 412 if it exists, 404 if not."""
    try:
        yield
    except NotFound:
        if not as_read:
            raise
        raise etags.changed(service.client.get(article.id, tenant_id=article.tenant_id)) from None


def _location(article: Article) -> dict[str, str]:
    return {"Location": f"/api/articles/{quote(article.id, safe='')}"}


def answered(
    service: Service, article: Article, status: int = 200, headers: Mapping[str, str] | None = None, state: State | None = None
) -> Response:
    """Serialized in this thread: FastAPI would wait for a second thread of the pool, behind all waiting requests."""
    facts: dict[str, Any] = {
        name: getattr(article, name) for name in article_answers.ArticleOut.model_fields if name != "embedding"
    }
    state = state or state_of(service.client.store, service.pace, article)
    out = article_answers.ArticleOut(**facts, embedding=article_answers.Embedding(**asdict(state)))
    told_with = {"ETag": etags.tag_of(article)} | dict(headers or {})
    return Response(out.model_dump_json(), status, told_with, "application/json")


def _earlier(row: dict[str, Any]) -> article_answers.Version:
    return article_answers.Version(
        version=row["version_number"], **{name: row[name] for name in article_answers.Version.model_fields if name != "version"}
    )


def _newest(article: Article) -> article_answers.Version:
    return article_answers.Version(
        version=article.version,
        title=article.title,
        content=article.content,
        slug=article.slug,
        metadata=dict(article.metadata),
        created_at=article.updated_at,
        superseded_at=None,
        deleted=False,
    )
