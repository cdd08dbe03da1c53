"""GET /metrics: metrics in Prometheus' text format; needs the admin token."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from ..operations.metrics import CONTENT_TYPE, OfHouse, OfProcess, page
from ..operations.status import glance
from .routes import AuthorizedRoute
from .service import ADMIN_BEARER, TheService

router = APIRouter(tags=["operator"], route_class=AuthorizedRoute, dependencies=[Depends(ADMIN_BEARER)])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: TheService) -> Response:
    """The database, the broker, the workers' last heartbeats, and this process. Answers while one of them is away: its `_up` is then 0."""
    client = service.client
    house = OfHouse(client.store, client.broker, lambda: glance(client.store, service.settings).found)
    return Response(page(OfProcess(), house), media_type=CONTENT_TYPE)
