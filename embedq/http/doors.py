"""The way into a path: first the token, then the body within its bounds, then FastAPI.

FastAPI reads a body before it asks the dependencies: a stranger could make the service hold it. So this is a class of route
(https://fastapi.tiangolo.com/how-to/custom-request-and-route/), and the dependencies say no more than what /docs has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import params
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ..decide.bodies import KIB, OPERATORS, Bounds
from ..operations.authentication import acting
from .needs import need_of
from .service import Service, the_service
from .shapes import Strict

# Whoever asks for the cockpit may send one, and holds a connection meanwhile.
FORM = Bounds(16 * KIB, within_s=10.0)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Door(APIRoute):
    """A path: asks for the token that `needs` names, sets who acts, and reads the body within its bounds."""

    def get_route_handler(self) -> Handler:
        answer, takes_body, form = super().get_route_handler(), self.body_field is not None, self._takes_a_form()

        async def through(request: Request) -> Response:
            service = the_service(request)
            refused = await self.refusal(service, request)
            if refused is not None or not takes_body:
                return refused or await answer(request)
            size = await service.bodies.read(request, self.bounds(service), form=form)
            try:
                return await answer(request)
            finally:
                service.bodies.let_go(size)

        return through

    async def refusal(self, service: Service, request: Request) -> Response | None:
        """The answer to a request that may not come in; Refusal where it is a problem."""
        need = need_of(request.method, self.path)
        if need is not None:
            acting.set(await service.gate.admit(request.headers.get("authorization"), need))
        return None

    def bounds(self, service: Service) -> Bounds:
        if self._takes_a_form():
            return FORM
        shape = self.body_field.field_info.annotation if self.body_field else None
        if isinstance(shape, type) and issubclass(shape, Strict):
            return shape.bounds(service.settings.article_batch_max)
        return OPERATORS

    def _takes_a_form(self) -> bool:
        return self.body_field is not None and isinstance(self.body_field.field_info, params.Form)
