"""`/models`: the registered models, how far each is, and the switch between them."""

from __future__ import annotations

from starlette.responses import Response

from .visit import TheVisit, new_router

router = new_router()


@router.get("/models")
def models(visit: TheVisit) -> Response:
    """Exact numbers need a scan of all articles: they are counted only for the model that `count` names."""
    store = visit.service.client.store
    counted, named = visit.request.query_params.get("count", "")[:100], None
    if counted:
        named = store.models.named(counted)
    progress = store.models.progress(named) if named else None
    rows = store.models.all()
    sizes = {row["id"]: store.console.model_facts(row["id"]) for row in rows}
    return visit.page(
        "models.html",
        models=rows,
        sizes=sizes,
        progress=progress,
        counted=named,
        articles=store.overview.about_rows().get("article_texts", -1),
        previous=store.models.previous(),
    )
