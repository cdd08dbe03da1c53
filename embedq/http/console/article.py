"""`/articles/{id}`: one article: its text and versions, its vectors by model, its tasks."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from ...errors import NotFound
from ...store import Store
from .visit import TheVisit, new_router

router = new_router()

SHOWN = 50


@router.get("/articles/{key:path}")
def article(visit: TheVisit, key: str) -> Response:
    """By id; a slug leads to the article that has it. Of a deleted article the versions and tasks that are left."""
    store = visit.service.client.store
    if "\0" in key:
        raise NotFound("there is no such article", hint="ids and slugs have no NUL")
    row = store.console.article(key)
    if row is None and (named := store.console.ids_of_slug(key, 1)):
        return RedirectResponse(f"/articles/{quote(named[0], safe='')}", 307)
    versions, tasks = store.console.versions(key, SHOWN), store.console.tasks_of(key, SHOWN)
    if row is None and not versions and not tasks:
        raise NotFound(f"there is no article {key[:100]!r}", hint="`embedq articles list` shows ids and slugs")
    return visit.page("article.html", a=row, key=key, versions=versions, tasks=tasks, vectors=_vectors(store, key), shown=SHOWN)


def _vectors(store: Store, key: str) -> list[dict[str, object]]:
    return store.console.vectors(key)
