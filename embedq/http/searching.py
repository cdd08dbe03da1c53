"""POST /api/search."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from ..errors import NotWell
from . import shapes
from .problems import Refusal, told
from .service import TheService, with_auth_token

router = APIRouter(prefix="/api", tags=["search"], dependencies=[Depends(with_auth_token)])


@router.post("/search", summary="Find articles by meaning", responses=told(400, 401, 403, 413, 422, 503))
def search(service: TheService, wanted: shapes.Search) -> shapes.Results:
    """The k articles of this tenant nearest to the query, best first."""
    try:
        hits = service.client.search(wanted.query, wanted.k, tenant_id=wanted.tenant_id)
    except NotWell as off:
        raise Refusal(503, "search-off", "Search is switched off", str(off), off.hint, headers={"Retry-After": "60"}) from off
    found = [shapes.Found(article_id=h.article_id, slug=h.slug, title=h.title, snippet=h.snippet, score=h.score) for h in hits]
    return shapes.Results(results=found)
