"""POST /api/search."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Depends

from ..errors import NotWell
from . import shapes
from .problems import Refusal, told
from .service import Service, TheService, no_strange_query, with_auth_token

router = APIRouter(prefix="/api", tags=["search"], dependencies=[Depends(with_auth_token), Depends(no_strange_query)])


@router.post("/search", summary="Find articles by meaning", responses=told(400, 401, 403, 413, 422, 503))
async def search(service: TheService, wanted: shapes.Search) -> shapes.Results:
    """The k articles of this tenant nearest to the query, best first; with `filter`, `min_score` and `hybrid` fewer, or in another order."""
    return await anyio.to_thread.run_sync(_found, service, wanted, limiter=service.searchers)


def _found(service: Service, wanted: shapes.Search) -> shapes.Results:
    try:
        hits = service.client.search(
            wanted.query,
            wanted.k,
            tenant_id=wanted.tenant_id,
            min_score=wanted.min_score,
            filter=wanted.filter,
            hybrid=wanted.hybrid,
        )
    except NotWell as off:
        raise Refusal(503, "search-off", "Search is switched off", str(off), off.hint, headers={"Retry-After": "60"}) from off
    found = [shapes.Found(article_id=h.article_id, slug=h.slug, title=h.title, snippet=h.snippet, score=h.score) for h in hits]
    return shapes.Results(results=found)
