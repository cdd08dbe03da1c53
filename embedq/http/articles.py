"""/api/articles: create, read, edit, delete, list, batch, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Query, Response

from ..decide.estimate import Estimate, estimate
from ..errors import InputError, NotFound
from ..model import Article, Priority
from . import batches, etags, shapes
from .idempotent import create_once
from .problems import told
from .service import Service, TheService, no_strange_query, with_auth_token
from .shapes import ArticleKey, TenantQuery

router = APIRouter(
    prefix="/api/articles", tags=["articles"], dependencies=[Depends(with_auth_token), Depends(no_strange_query)]
)

KEY = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$",
        description="Repeating a create with the same key and body answers as the first time did, and writes nothing.",
    ),
]  # fmt: skip
TAGGED = "3-6274f1b0c8d40"
IF_MATCH = Annotated[
    str | None,
    Header(
        alias="If-Match", max_length=1000,
        description=f'The ETag that was read, e.g. "{TAGGED}": refused (412) if title, content, slug or metadata have changed since.',
    ),
]  # fmt: skip
IF_NONE_MATCH = Annotated[
    str | None,
    Header(alias="If-None-Match", max_length=1000, description="`*`: refused (412), because an edit never makes an article."),
]
ETAG_OUT = {
    "headers": {
        "ETag": {
            "description": "Stands for title, content, slug and metadata; not for the state of the embedding.",
            "schema": {"type": "string", "examples": [f'"{TAGGED}"']},
        }
    }
}


@router.post(
    "",
    status_code=201,
    summary="Create an article",
    response_model=shapes.ArticleOut,
    responses={201: ETAG_OUT, **told(400, 401, 403, 409, 410, 413, 422, 503)},
)
def create(service: TheService, new: shapes.NewArticle, key: KEY = None) -> Response:
    """Saved at once, with a task to embed it in the same transaction; neither the broker nor the provider is waited for."""
    repeated = False
    if key is not None:
        article, repeated = create_once(service.client, new, key)
    else:
        article = service.client.create(
            new.title, new.content, id=new.id, slug=new.slug, tenant_id=new.tenant_id, metadata=new.metadata,
            priority=new.priority, reason=new.reason,
        )  # fmt: skip
    headers = {"Location": f"/api/articles/{quote(article.id, safe='')}"} | (
        {"Idempotent-Replayed": "true"} if repeated else {}
    )
    return answered(service, article, 201, headers)


@router.get("", summary="List articles", responses=told(401, 422, 503))
def list_articles(
    service: TheService,
    tenant_id: TenantQuery = "default",
    status: Annotated[shapes.Status | None, Query(description="Only articles in this state of embedding.")] = None,
    after: Annotated[str, Query(max_length=500, pattern=shapes.NO_NUL, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> shapes.ArticlePage:
    """In the order of ids, without their texts."""
    rows = service.client.store.articles.page(tenant_id=tenant_id, status=status, after=after, limit=limit + 1)
    page = [shapes.Listed(**row) for row in rows[:limit]]
    return shapes.ArticlePage(articles=page, next=page[-1].id if len(rows) > limit else None)


@router.post("/batch", status_code=200, summary="Write many articles", responses=told(400, 401, 403, 409, 413, 422, 503))
def write_batch(service: TheService, batch: shapes.Batch) -> shapes.BatchDone:
    """In one transaction: all are written, or none. At most ARTICLE_BATCH_MAX."""
    return batches.write(service, batch)


@router.get("/{article_id:path}/versions", summary="An article's history", responses=told(401, 404, 422, 503))
def versions(service: TheService, article_id: ArticleKey, tenant_id: TenantQuery = "default") -> shapes.Versions:
    """Every text it had, the newest last; also of a deleted article, by its id, until clean-up."""
    store = service.client.store
    try:
        newest: Article | None = store.articles.get(article_id, tenant_id=tenant_id)
    except NotFound:
        newest = None
    key = newest.id if newest else article_id
    earlier = [_earlier(row) for row in store.articles.versions(key, tenant_id=tenant_id)]
    if newest is None and not earlier:
        raise NotFound(f"there is no article {article_id!r}", hint="check the id")
    return shapes.Versions(article_id=key, versions=earlier + ([_newest(newest)] if newest else []))


@router.get(
    "/{article_id:path}",
    summary="Read an article",
    response_model=shapes.ArticleOut,
    responses={200: ETAG_OUT, **told(401, 404, 422, 503)},
)
def read(service: TheService, article_id: ArticleKey, tenant_id: TenantQuery = "default") -> Response:
    """With the state of its embedding, and when it may be expected."""
    return answered(service, service.client.get(article_id, tenant_id=tenant_id))


@router.put(
    "/{article_id:path}",
    summary="Edit an article",
    response_model=shapes.ArticleOut,
    responses={200: ETAG_OUT, **told(400, 401, 403, 404, 409, 412, 413, 422, 503)},
)
def edit(
    service: TheService,
    article_id: ArticleKey,
    changes: shapes.Edit,
    tenant_id: TenantQuery = "default",
    if_match: IF_MATCH = None,
    if_none_match: IF_NONE_MATCH = None,
) -> Response:
    """Changes what is named and leaves the rest, as null does. A changed text is embedded anew; the old one stays in the history."""
    wanted = changes.model_dump(exclude={"priority", "reason"}, exclude_none=True)
    if not wanted:
        raise InputError("nothing is to be changed", hint="name title, content, slug or metadata", field="body")
    article = service.client.get(article_id, tenant_id=tenant_id)
    as_read = etags.condition(article, if_match, if_none_match)
    with changed_since_told(service, article, as_read):
        edited = service.client.edit(
            article.id, tenant_id=tenant_id, priority=changes.priority, reason=changes.reason, **as_read, **wanted
        )
    return answered(service, edited)


@router.delete("/{article_id:path}", status_code=204, summary="Delete an article", responses=told(401, 403, 404, 412, 422, 503))
def delete(service: TheService, article_id: ArticleKey, tenant_id: TenantQuery = "default", if_match: IF_MATCH = None) -> None:
    """With its vectors and open tasks. Its last text stays in the history until clean-up."""
    article = service.client.get(article_id, tenant_id=tenant_id)
    as_read = etags.condition(article, if_match)
    with changed_since_told(service, article, as_read):
        service.client.delete(article.id, tenant_id=tenant_id, **as_read)


@contextmanager
def changed_since_told(service: Service, article: Article, as_read: Mapping[str, Any]) -> Iterator[None]:
    """Nothing was written because the article is not as it was read: 412 while it exists, 404 when it does not."""
    try:
        yield
    except NotFound:
        if not as_read:
            raise
        raise etags.changed(service.client.get(article.id, tenant_id=article.tenant_id)) from None


def answered(service: Service, article: Article, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Written out here, in the thread that has the article: FastAPI would queue for a second one, behind every request that waits."""
    facts: dict[str, Any] = {name: getattr(article, name) for name in shapes.ArticleOut.model_fields if name != "embedding"}
    out = shapes.ArticleOut(**facts, embedding=embedding_of(service, article))
    told_with = {"ETag": etags.tag_of(article)} | dict(headers or {})
    return Response(out.model_dump_json(), status, told_with, "application/json")


def embedding_of(service: Service, article: Article) -> shapes.Embedding:
    state = shapes.Embedding(status=article.embedding_status)  # type: ignore[arg-type]
    task = service.client.store.watch.task_of(article.id)
    if task is None:
        state.waits_for = None if state.status == "ready" else "it has no task: submissions are paused, or the mode makes none"
        return state
    state.task_id, state.priority, state.attempts = task["id"], Priority(task["priority"]), task["attempts"]
    state.error = task["error_class"] if state.status != "ready" else None
    if task["status"] == "processing":
        state.place = "worker"
    elif task["status"] == "pending":
        state.place = "broker" if task["dispatched"] else "table"
        state.retry_at = task["scheduled_at"] if task["due_in_s"] > 1 else None
    if state.place is not None:
        state.eta_s, state.waits_for = _estimated(service, article, task)
    return state


def _estimated(service: Service, article: Article, task: dict[str, Any]) -> Estimate:
    return estimate(service.pace.flow(), Priority(task["priority"]), article.tenant_id, due_in_s=max(0.0, task["due_in_s"]))


def _earlier(row: dict[str, Any]) -> shapes.Version:
    return shapes.Version(
        version=row["version_number"], **{name: row[name] for name in shapes.Version.model_fields if name != "version"}
    )


def _newest(article: Article) -> shapes.Version:
    return shapes.Version(
        version=article.version, title=article.title, content=article.content, slug=article.slug, metadata=dict(article.metadata),
        created_at=article.updated_at, superseded_at=None, deleted=False,
    )  # fmt: skip
