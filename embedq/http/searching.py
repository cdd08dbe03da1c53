"""POST /api/search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio.to_thread
from fastapi import APIRouter, Depends

from ..decide.access import Area, Need, Scope, source_for
from ..errors import NotWell, RerankerFailed
from ..model import Hit
from ..operations.authentication import acting
from . import shapes
from .gate import forbidden
from .problems import Refusal, told
from .routes import AuthorizedRoute
from .service import ARTICLES_BEARER, Service, TheService, no_strange_query

router = APIRouter(
    prefix="/api",
    tags=["search"],
    route_class=AuthorizedRoute,
    dependencies=[Depends(ARTICLES_BEARER), Depends(no_strange_query)],
)


@router.post("/search", summary="Find articles by meaning", responses=told(404))
async def search(service: TheService, wanted: shapes.Search) -> shapes.Results:
    """The k articles of this tenant nearest to the query, best first; with `filter`, `min_score` and `hybrid` fewer, or in another order.

    With `source` rows of attached tables; 404 for a source that there is not."""
    return await anyio.to_thread.run_sync(_found, service, wanted, limiter=service.searchers)


def _source(wanted: shapes.Search) -> str | Sequence[str] | None:
    """Raises Refusal (403) for another source than the token's."""
    try:
        return source_for(acting.get(), wanted.source)
    except PermissionError as said:
        raise forbidden(str(said), Need(Scope.READ, Area.SEARCH)) from None


def _found(service: Service, wanted: shapes.Search) -> shapes.Results:
    several = isinstance(wanted.query, list)
    queries = wanted.query if isinstance(wanted.query, list) else [wanted.query]
    with search_is_on():
        answers = service.client.search_many(
            queries,
            wanted.k,
            tenant_id=wanted.tenant_id,
            min_score=wanted.min_score,
            filter=wanted.filter,
            hybrid=wanted.hybrid,
            offset=wanted.offset,
            fold=wanted.fold,
            diversity=wanted.diversity,
            rerank=wanted.rerank,
            source=_source(wanted),
        )
    if not several:
        return shapes.Results(results=found_of(answers[0]))
    told = [shapes.Answered(query=query, results=found_of(hits)) for query, hits in zip(queries, answers, strict=True)]
    return shapes.Results(results=[], answers=told)


def found_of(hits: Sequence[Hit]) -> list[shapes.Found]:
    return [shapes.Found(**{name: getattr(hit, name) for name in shapes.Found.model_fields}) for hit in hits]


@contextmanager
def search_is_on() -> Iterator[None]:
    """Raises Refusal (503) where it is off, or where the reranker failed."""
    try:
        yield
    except RerankerFailed as failed:
        raise _unavailable("reranker-failed", "The reranker failed", failed) from failed
    except NotWell as off:
        raise _unavailable("search-off", "Search is switched off", off) from off


def _unavailable(kind: str, title: str, why: NotWell) -> Refusal:
    return Refusal(503, kind, title, str(why), why.hint, headers={"Retry-After": "60"})
