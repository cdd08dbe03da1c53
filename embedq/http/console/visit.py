"""A request for a page of the console: the session or the sign-in form, errors as pages, the theme."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Header
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from ..._version import __version__
from ...decide.access import ANYBODY, Principal
from ...errors import EmbedqError, InputError, NotFound, NotWell
from .. import cockpit, session
from ..problems import Refusal
from ..rendering import SECTIONS, page, theme_of
from ..routes import AuthorizedRoute, Handler
from ..service import Service, TheService


class SignIn(Exception):
    """Raised for a request without a session."""

    def __init__(self, page: Response) -> None:
        super().__init__("not signed in")
        self.page = page


@dataclass(frozen=True, slots=True)
class Visit:
    """One request with a session. `fresh`: a cookie to be set (the request had the token itself); `told`: the last action's result."""

    service: Service
    request: Request
    principal: Principal
    cookie: str
    fresh: bool
    told: str

    @property
    def here(self) -> str:
        """This page's URL with its filter, without the last action's result."""
        kept = [(name, value) for name, value in self.request.query_params.multi_items() if name not in ("said", "seal")]
        return quote(self.request.url.path) + (f"?{urlencode(kept)}" if kept else "")

    def page(self, name: str, status: int = 200, **facts: Any) -> Response:
        service = self.service
        answer = page(
            name,
            status,
            here=self.here,
            told=self.told,
            form=session.form_token(service.admission, self.cookie),
            may_act=cockpit.may_act(self.principal),
            sections=SECTIONS,
            theme=theme_of(self.request),
            version=__version__,
            open_house=service.admission.everything_open,
            live=service.client.store.status.live(),
            **facts,
        )
        if self.fresh:
            cockpit.set_cookie(self.request, answer, self.cookie)
        return answer


def the_visit(
    service: TheService, request: Request, authorization: Annotated[str | None, Header()] = None, said: str = "", seal: str = ""
) -> Visit:
    """Raises SignIn."""
    principal, cookie = cockpit.signed_in(service, request, authorization)
    if principal is None and not service.admission.everything_open:
        closed = service.admission.closed(cockpit.SETTING)
        raise SignIn(page("signin.html", 401, closed=closed, theme=theme_of(request), back=_here(request)))
    fresh = principal is None or not cookie
    principal = principal or ANYBODY
    cookie = session.new_cookie(service.admission, principal) if fresh else cookie
    # The message in the URL is shown only with this session's signature, so that a link cannot put words on the page.
    told = said if said and session.form_token_fits(service.admission, cookie, seal, said) else ""
    return Visit(service, request, principal, cookie, fresh, told)


TheVisit = Annotated[Visit, Depends(the_visit)]


def _here(request: Request) -> str:
    return quote(request.url.path) + (f"?{request.url.query}" if request.url.query else "")


class ConsoleRoute(AuthorizedRoute):
    """Answers with HTML pages, errors included."""

    def get_route_handler(self) -> Handler:
        return _with_pages(super().get_route_handler())


def _with_pages(answer: Handler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def shown(request: Request) -> Response:
        try:
            return await answer(request)
        except SignIn as needed:
            return needed.page
        except (EmbedqError, Refusal, RequestValidationError) as wrong:
            return _wrong(request, wrong)

    return shown


def _wrong(request: Request, wrong: Exception) -> Response:
    status, why, hint = _told(wrong)
    headers = wrong.headers if isinstance(wrong, Refusal) else {}
    answer = page("wrong.html", status, why=why, hint=hint, code=status, theme=theme_of(request), sections=SECTIONS)
    answer.headers.update(headers)
    return answer


def _told(wrong: Exception) -> tuple[int, str, str]:
    match wrong:
        case Refusal():
            return wrong.status, str(wrong), wrong.next_step
        case NotFound():
            return 404, str(wrong), wrong.hint
        case InputError():
            return 422, str(wrong), wrong.hint
        case NotWell():
            return 409, str(wrong), wrong.hint
        case EmbedqError():
            return 503, str(wrong), wrong.hint
        case _:
            return 422, "a field of the address or of the form cannot be understood", "go back and correct it"


def new_router(route: type[ConsoleRoute] = ConsoleRoute) -> APIRouter:
    return APIRouter(route_class=route, include_in_schema=False)
