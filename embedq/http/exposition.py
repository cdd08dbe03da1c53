"""GET /metrics: Prometheus' text, for whoever has the admin token."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from ..operations.metrics import CONTENT_TYPE, OfHouse, OfProcess, page
from ..operations.status import glance
from .doors import Door
from .service import ADMIN_BEARER, TheService

router = APIRouter(tags=["operator"], route_class=Door, dependencies=[Depends(ADMIN_BEARER)])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: TheService) -> Response:
    """The database, the broker, the workers' last heartbeats, and this process. Works, and says so, while a part is away."""
    client = service.client
    house = OfHouse(client.store, client.broker, lambda: glance(client.store, service.settings).found)
    return Response(page(OfProcess(), house), media_type=CONTENT_TYPE)
