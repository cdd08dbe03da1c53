"""`/sources`: the attached tables: state, how far the comparison is, what is wrong and the command that helps."""

from __future__ import annotations

from starlette.responses import Response

from ...decide.sources import source_of
from .visit import TheVisit, new_router

router = new_router()


@router.get("/sources")
def sources(visit: TheVisit) -> Response:
    """Numbers of articles by state need a scan of a source's articles: they are counted only for the source that `count` names."""
    store = visit.service.client.store
    rows = [source_of(row) for row in store.sources.all()]
    counted = visit.request.query_params.get("count", "")[:100]
    known = any(row.name == counted for row in rows)
    counts = store.sources.counts(counted) if known else None
    return visit.page("sources.html", sources=rows, counted=counted, counts=counts)
