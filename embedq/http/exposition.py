"""GET /metrics: Prometheus' text, for whoever has the admin token."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from ..metrics import CONTENT_TYPE, OfHouse, OfProcess, page
from .problems import told
from .service import TheService, with_admin_token

router = APIRouter(tags=["operator"], dependencies=[Depends(with_admin_token)])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response,
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **told(401)})  # fmt: skip
def metrics(service: TheService) -> Response:
    """The database, the broker, the workers' last heartbeats, and this process. Works, and says so, while a part is away."""
    return Response(page(OfProcess(), OfHouse(service.client.store, service.client.broker)), media_type=CONTENT_TYPE)
