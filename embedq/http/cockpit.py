"""The cockpit at `/`: one page that shows both deliveries, with the actions beside the numbers that they change.

It works without JavaScript; with it, numbers and charts are refreshed. Every action is a form with a reason, needs a session
cookie, and is written to the audit log.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Header, Query, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from .._version import __version__
from ..decide.access import ANYBODY, Principal, why_not
from ..errors import EmbedqError
from ..model import Mode, Priority
from ..operations.authentication import acting
from ..store.console import COUNTED
from . import session
from .cockpit_actions import LEVERS, perform
from .fields import NO_NUL
from .gate import forbidden
from .needs import TO_ACT, TO_LOOK
from .origins import peer_of
from .problems import Refusal
from .rendering import SECTIONS, file, page, pages, theme_of
from .routes import AuthorizedRoute
from .service import Service, TheService
from .snapshot import failed_by_class, snapshot


def may_act(principal: Principal) -> bool:
    """Whether this session may change anything: checked before every action of the cockpit and the console."""
    return why_not(principal, TO_ACT) is None


async def refused(service: Service, request: Request, *, to_act: bool) -> Response | None:
    """For forms: a request without a session is redirected to the sign-in page, and one whose token may not act is refused (Refusal),
    before the form is read."""
    cookie = request.cookies.get(session.COOKIE, "")
    if session.token_of(cookie):
        await service.gate.look()
    principal = service.sessions.principal(cookie) if session.is_valid(service.admission, cookie) else None
    if principal is None:
        return RedirectResponse("/", 303)
    if to_act and (said := why_not(principal, TO_ACT)):
        raise forbidden(said, TO_ACT)
    acting.set(principal)
    return None


class SessionRoute(AuthorizedRoute):
    """For forms of the cockpit."""

    async def refusal(self, service: Service, request: Request) -> Response | None:
        return await refused(service, request, to_act="act" in request.path_params)


router = APIRouter(route_class=AuthorizedRoute, include_in_schema=False)
forms = APIRouter(route_class=SessionRoute, include_in_schema=False)

ASSETS = {
    "cockpit.css": "text/css",
    "console.css": "text/css",
    "cockpit.js": "text/javascript",
    "console.js": "text/javascript",
}
RESULTS = 8
SETTING = "ADMIN_TOKEN"

Text = Annotated[str, Form(max_length=500, pattern=NO_NUL)]


def signed_in(service: Service, request: Request, authorization: str | None) -> tuple[Principal | None, str]:
    """The principal, None if not signed in; and the session's cookie, empty if the request has the token itself."""
    given = (authorization or "").removeprefix("Bearer ").strip()
    if given and (principal := admitted(service, request, given)):
        return principal, ""
    cookie = request.cookies.get(session.COOKIE, "")
    return service.sessions.open(cookie or None), cookie


def admitted(service: Service, request: Request, token: str) -> Principal | None:
    """The principal of this token, None if it may not see the cockpit. Raises Refusal (429) after too many wrong tokens."""
    peer = peer_of(request.client.host if request.client else None)
    wait_s = service.attempts.take(peer)
    if wait_s > 0:
        raise Refusal(
            429,
            "attempts",
            "Too many wrong tokens",
            "too many wrong tokens were tried",
            f"try again in {ceil(wait_s)} s",
            headers={"Retry-After": str(ceil(wait_s))},
        )
    principal = service.admission.who(token) or (ANYBODY if service.admission.everything_open else None)
    if principal is None or why_not(principal, TO_LOOK):
        return None
    service.attempts.was_right(peer)
    return principal


@router.get("/")
def cockpit(
    service: TheService,
    request: Request,
    authorization: Annotated[str | None, Header()] = None,
    q: Annotated[str, Query(max_length=1000, pattern=NO_NUL)] = "",
    tenant: Annotated[str, Query(max_length=100, pattern=NO_NUL)] = "",
    said: str = "",
    seal: str = "",
) -> Response:
    """The page; without a session, the sign-in form."""
    try:
        principal, cookie = signed_in(service, request, authorization)
    except EmbedqError as away:
        return page("away.html", 503, why=str(away), hint=away.hint)
    fresh = ""
    if principal is None or not cookie:
        if principal is None and not service.admission.everything_open:
            closed = service.admission.closed(SETTING)
            return page("signin.html", 401 if authorization else 200, closed=closed, theme=theme_of(request))
        principal = principal or ANYBODY
        cookie = fresh = session.new_cookie(service.admission, principal)
    # The message in the URL is shown only with this session's signature, so that a link cannot put words on the page.
    told = said if said and session.form_token_fits(service.admission, cookie, seal, said) else ""
    answer = _shown(service, principal, cookie, told, q, tenant, theme_of(request))
    if fresh:
        set_cookie(request, answer, fresh)
    return answer


def _shown(service: Service, principal: Principal, cookie: str, told: str, q: str, tenant: str, theme: str) -> Response:
    form, found, complaint = session.form_token(service.admission, cookie), None, ""
    try:
        seen, classes = snapshot(service), failed_by_class(service.client.store)
    except EmbedqError as away:
        return page("away.html", 503, why=str(away), hint=away.hint)
    if q.strip():
        try:
            found = service.client.search(q, RESULTS, tenant_id=tenant or None)
        except EmbedqError as failed:
            complaint = f"{failed} — {failed.hint}"
    return page(
        "cockpit.html",
        200,
        p=seen,
        failed=classes,
        counted=COUNTED,
        form=form,
        told=told,
        q=q,
        tenant=tenant,
        found=found,
        complaint=complaint,
        modes=tuple(Mode),
        priorities=tuple(Priority),
        version=__version__,
        open_house=service.admission.everything_open,
        who=principal.name,
        may_act=may_act(principal),
        sections=SECTIONS,
        theme=theme,
    )


@router.get("/cockpit/live")
def live(service: TheService, request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
    """What the page refreshes: rendered parts by element id, and the series of the charts."""
    if signed_in(service, request, authorization)[0] is None:
        raise Refusal(401, "token", "Signed out", "the session is over", "sign in again at /")
    seen = snapshot(service)
    macros: Any = pages.get_template("parts.html").module
    parts = {
        name: str(getattr(macros, name)(seen)) for name in ("summary", "numbers", "places", "workers", "findings", "audit")
    }
    return JSONResponse({"parts": parts, "depth": seen.depth, "rate": seen.rate, "mode": seen.seen.live.mode})


@router.post("/cockpit/signin")
def sign_in(
    service: TheService,
    request: Request,
    token: Annotated[str, Form(max_length=1000)],
    back: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    try:
        principal = admitted(service, request, token.strip())
    except Refusal as wait:
        answer = page("signin.html", wait.status, wait_s=wait.headers["Retry-After"], back=back)
        answer.headers.update(wait.headers)
        return answer
    except EmbedqError as away:
        return page("away.html", 503, why=str(away), hint=away.hint)
    if principal is None:
        return page("signin.html", 401, wrong=True, closed=service.admission.closed(SETTING), back=back)
    answer = RedirectResponse(session.own_path(back), 303)
    set_cookie(request, answer, session.new_cookie(service.admission, principal))
    return answer


@forms.post("/cockpit/signout")
def sign_out(service: TheService, request: Request, form: Text = "") -> Response:
    """Afterwards the cookie, and every copy of it, is invalid in all processes of the service."""
    cookie = own_form(service, request, form)
    answer: Response = RedirectResponse("/", 303)
    try:
        if service.sessions.open(cookie):
            service.sessions.end(cookie, f"{acting.get().name}@{host_of(request)}")
    except EmbedqError as away:
        why = f"Signed out here. The other processes of the service could not be told: {away}"
        answer = page("away.html", 503, why=why, hint=away.hint)
    answer.delete_cookie(session.COOKIE, httponly=True, samesite="strict")
    return answer


def own_form(service: Service, request: Request, form: str) -> str:
    """The session's cookie, when the form is of its own page. Raises Refusal."""
    cookie = request.cookies.get(session.COOKIE, "")
    if not session.form_token_fits(service.admission, cookie, form):
        raise Refusal(
            403, "elsewhere", "The form is not from this page", "its token does not fit", "open the cockpit anew and try again"
        )
    return cookie


def host_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def set_cookie(request: Request, answer: Response, cookie: str) -> None:
    # Behind a proxy that ends TLS, the Origin header shows that the browser uses https.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    answer.set_cookie(session.COOKIE, cookie, max_age=session.LASTS_S, httponly=True, samesite="strict", secure=secure)


@forms.post("/cockpit/{act}")
def do(
    service: TheService,
    request: Request,
    act: str,
    reason: Text = "",
    form: Text = "",
    mode: Text = "",
    priority: Text = "",
    error_class: Text = "",
    sure: Text = "",
) -> Response:
    """Perform one action, then show the page with its result."""
    cookie = own_form(service, request, form)
    if not service.sessions.open(cookie):
        return RedirectResponse("/", 303)
    if act not in LEVERS:
        raise Refusal(404, "not-found", "There is no such act", act[:40], "the cockpit shows what can be done")
    peer = host_of(request)
    try:
        said = perform(
            service, act, reason.strip(), peer, {"mode": mode, "priority": priority, "error_class": error_class, "sure": sure}
        )
    except EmbedqError as refused:
        said = f"Not done: {refused} — {refused.hint}"
    seal = session.form_token(service.admission, cookie, said)
    return RedirectResponse("/?" + urlencode({"said": said, "seal": seal}), 303)


@router.get("/cockpit/assets/{name}")
def asset(name: str) -> Response:
    if name not in ASSETS:
        raise Refusal(404, "not-found", "There is no such file", name[:40], "the cockpit is at /")
    return Response(file("embedq.http", "pages", name), media_type=ASSETS[name], headers={"Cache-Control": "no-cache"})
