"""POST /api/search."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread
from fastapi import APIRouter, Depends

from ..decide.access import Area, Need, Scope, source_for
from ..errors import NotWell
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
    try:
        hits = service.client.search(
            wanted.query,
            wanted.k,
            tenant_id=wanted.tenant_id,
            min_score=wanted.min_score,
            filter=wanted.filter,
            hybrid=wanted.hybrid,
            source=_source(wanted),
        )
    except NotWell as off:
        raise Refusal(503, "search-off", "Search is switched off", str(off), off.hint, headers={"Retry-After": "60"}) from off
    found = [shapes.Found(**{name: getattr(hit, name) for name in shapes.Found.model_fields}) for hit in hits]
    return shapes.Results(results=found)
