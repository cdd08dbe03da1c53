"""GET /health: liveness and readiness of the process. It needs no token, so it contains no address and no secret."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .checked import Health
from .routes import AuthorizedRoute
from .service import TheService

router = APIRouter(route_class=AuthorizedRoute, tags=["health"])


@router.get("/health", summary="Liveness, and readiness in detail")
async def health(service: TheService) -> Health:
    """Always 200 while the process lives; `ready` and `checks` say what it can do."""
    return await service.checked.look()


@router.get(
    "/health/ready",
    summary="Readiness alone, for load balancers",
    responses={503: {"model": Health, "description": "PostgreSQL is away"}},
)
async def ready(service: TheService, response: Response) -> Health:
    """503 while PostgreSQL is away."""
    found = await service.checked.look()
    if not found.ready:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return found
