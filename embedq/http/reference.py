"""/docs: Swagger UI over this service's own OpenAPI. Its files come with a package (fastapi-offline) and are served from here,
so the page needs no internet access.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from .problems import Refusal
from .rendering import file, page
from .routes import AuthorizedRoute

router = APIRouter(route_class=AuthorizedRoute, include_in_schema=False)

# name -> (package, folder, media type). Swagger UI is Apache-2.0.
ASSETS = {
    "swagger-ui-bundle.js": ("fastapi_offline", "static", "text/javascript"),
    "swagger-ui.css": ("fastapi_offline", "static", "text/css"),
    "docs.js": ("embedq.http", "pages", "text/javascript"),
}


@router.get("/docs")
def docs() -> Response:
    return page("docs.html", 200)


@router.get("/docs/assets/{name}")
def asset(name: str) -> Response:
    if name not in ASSETS:
        raise Refusal(404, "not-found", "There is no such file", name[:40], "the reference is at /docs")
    package, folder, media_type = ASSETS[name]
    return Response(file(package, folder, name), media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})
