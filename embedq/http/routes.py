"""The route class of all paths: it checks the token, then reads the body within its limits, then calls FastAPI.

FastAPI reads the body before it calls dependencies, so that requests without a token could fill the memory. So this is a class of route
(https://fastapi.tiangolo.com/how-to/custom-request-and-route/), and the dependencies exist only for /docs.
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
from .fields import Strict
from .needs import need_of
from .service import Service, the_service

# The sign-in form may be sent without a session, and occupies a connection meanwhile.
FORM = Bounds(16 * KIB, within_s=10.0)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class AuthorizedRoute(APIRoute):
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
        """The answer to a request that is not allowed; raises Refusal where the answer is a problem document."""
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
