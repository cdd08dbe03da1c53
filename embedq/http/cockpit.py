"""The cockpit at `/`: one page that shows both deliveries, and the levers beside what they move.

It works without JavaScript; with it, the numbers and charts renew themselves. Every act is a form with a reason, signed
in by cookie, and on record like the commands'.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Form, Header, Query, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from .._version import __version__
from ..errors import EmbedqError, InputError
from ..model import Mode, Priority
from . import acts, session
from .guard import Area
from .picture import Picture, ceiling, line, moment, picture, span
from .problems import Refusal
from .service import Service, TheService
from .shapes import NO_NUL

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ASSETS = {"cockpit.css": "text/css", "cockpit.js": "text/javascript"}
RESULTS = 8
BEARER = "bearer"

pages = jinja2.Environment(
    loader=jinja2.PackageLoader("embedq.http", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
pages.filters.update(span=span, moment=moment, line=line, ceiling=ceiling)

Text = Annotated[str, Form(max_length=500, pattern=NO_NUL)]


def signed_in(service: Service, request: Request, authorization: str | None) -> str | None:
    """The session's cookie (BEARER for who sends the token itself), None for a stranger."""
    given = (authorization or "").removeprefix("Bearer ").strip()
    if given and service.guard.admits(Area.ADMIN, given):
        return BEARER
    cookie = request.cookies.get(session.COOKIE)
    return cookie if cookie is not None and session.is_valid(service.guard, cookie) else None


@router.get("/")
def cockpit(
    service: TheService, request: Request, authorization: Annotated[str | None, Header()] = None,
    q: Annotated[str, Query(max_length=1000, pattern=NO_NUL)] = "",
    tenant: Annotated[str, Query(max_length=100, pattern=NO_NUL)] = "", said: str = "", seal: str = "",
) -> Response:  # fmt: skip
    """The page; the sign-in form for a stranger."""
    cookie = signed_in(service, request, authorization)
    if cookie is None and not service.guard.everything_open:
        return page("signin.html", 401 if authorization else 200, closed=service.guard.closed(Area.ADMIN))
    fresh = session.new_cookie(service.guard) if cookie in (None, BEARER) else None
    cookie = fresh or cookie or ""
    # Only what this session was told itself is shown: an address with words in it, made by somebody else, says nothing.
    told = said if said and session.form_token_fits(service.guard, cookie + said, seal) else ""
    answer = _shown(service, cookie, told, q, tenant)
    if fresh:
        _set_cookie(request, answer, fresh)
    return answer


def _shown(service: Service, cookie: str, told: str, q: str, tenant: str) -> Response:
    form, found, complaint = session.form_token(service.guard, cookie), None, ""
    try:
        seen: Picture | None = picture(service)
    except EmbedqError as away:
        return page("away.html", 503, why=str(away), hint=away.hint)
    if q.strip():
        try:
            found = service.client.search(q, RESULTS, tenant_id=tenant or None)
        except EmbedqError as failed:
            complaint = f"{failed} — {failed.hint}"
    return page(
        "cockpit.html", 200, p=seen, form=form, told=told, q=q, tenant=tenant, found=found, complaint=complaint, modes=tuple(Mode),
        priorities=tuple(Priority), version=__version__, open_house=service.guard.everything_open,
    )  # fmt: skip


@router.get("/cockpit/live")
def live(service: TheService, request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
    """What the page renews: rendered parts by their element's id, and the charts' series."""
    if signed_in(service, request, authorization) is None:
        raise Refusal(401, "token", "Signed out", "the session is over", "sign in again at /")
    seen = picture(service)
    macros: Any = pages.get_template("parts.html").module
    parts = {
        name: str(getattr(macros, name)(seen)) for name in ("summary", "numbers", "places", "workers", "findings", "audit")
    }
    return JSONResponse({"parts": parts, "depth": seen.depth, "rate": seen.rate, "mode": seen.seen.live["mode"]})


@router.post("/cockpit/signin")
def sign_in(service: TheService, request: Request, token: Annotated[str, Form(max_length=1000)]) -> Response:
    if not service.guard.admits(Area.ADMIN, token.strip()):
        return page("signin.html", 401, wrong=True, closed=service.guard.closed(Area.ADMIN))
    answer = RedirectResponse("/", 303)
    _set_cookie(request, answer, session.new_cookie(service.guard))
    return answer


@router.post("/cockpit/signout")
def sign_out() -> Response:
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(session.COOKIE)
    return answer


def _set_cookie(request: Request, answer: Response, cookie: str) -> None:
    # Behind a proxy with TLS the browser's own word (Origin) tells that the cookie travels over https.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    answer.set_cookie(session.COOKIE, cookie, max_age=session.LASTS_S, httponly=True, samesite="strict", secure=secure)


@router.post("/cockpit/{act}")
def do(
    service: TheService, request: Request, act: str, reason: Text = "", form: Text = "", mode: Text = "", priority: Text = "",
    error_class: Text = "", sure: Text = "",
) -> Response:  # fmt: skip
    """One act, then the page again with what came of it."""
    cookie = request.cookies.get(session.COOKIE)
    if cookie is None or not session.is_valid(service.guard, cookie):
        return RedirectResponse("/", 303)
    if not session.form_token_fits(service.guard, cookie, form):
        raise Refusal(
            403, "elsewhere", "The form is not from this page", "its token does not fit", "open the cockpit anew and try again"
        )
    if act not in LEVERS:
        raise Refusal(404, "not-found", "There is no such act", act[:40], "the cockpit shows what can be done")
    peer = request.client.host if request.client else "unknown"
    try:
        said = _act(
            service, act, reason.strip(), peer, {"mode": mode, "priority": priority, "error_class": error_class, "sure": sure}
        )
    except EmbedqError as refused:
        said = f"Not done: {refused} — {refused.hint}"
    seal = session.form_token(service.guard, cookie + said)
    return RedirectResponse("/?" + urlencode({"said": said, "seal": seal}), 303)


def _act(service: Service, act: str, reason: str, peer: str, given: dict[str, str]) -> str:
    if not reason:
        raise InputError("an act needs its reason", hint="say why; the audit log keeps it", field="reason")
    return LEVERS[act](service, acts.Operator(peer, reason), given)


def _mode(service: Service, by: acts.Operator, given: dict[str, str]) -> str:
    if given["mode"] not in tuple(Mode):
        raise InputError("that is no mode", hint="choose one of the list", field="mode")
    done = acts.change_mode(service, Mode(given["mode"]), by)
    return f"Mode {done['before']} → {done['after']}; the fence held after {span(done['fenced_s'])}. " + " ".join(
        done["warnings"]
    )


def _pause(paused: bool) -> Callable[[Service, acts.Operator, dict[str, str]], str]:
    def change(service: Service, by: acts.Operator, given: dict[str, str]) -> str:
        chosen = [Priority(given["priority"])] if given["priority"] in tuple(Priority) else []
        now = acts.set_paused(service, chosen, paused, by)["paused_priorities"]
        return f"Paused now: {', '.join(now) or 'nothing'}."

    return change


def _run(running: bool) -> Callable[[Service, acts.Operator, dict[str, str]], str]:
    def change(service: Service, by: acts.Operator, _: dict[str, str]) -> str:
        acts.set_running(service, running, by)
        return "Workers may claim again." if running else "No worker can claim; what is in flight settles."

    return change


def _emergency(service: Service, by: acts.Operator, given: dict[str, str]) -> str:
    if not given["sure"]:
        raise InputError("the emergency procedure was not confirmed", hint="tick the box beside the button", field="sure")
    done = acts.emergency(service, by)
    told = "; ".join(f"{step['step']} {span(step['seconds'])}" for step in done["steps"])
    verdict = "Nothing is missing." if done["verified"] else "Verify is NOT content: embedq verify."
    return f"Emergency: {done['before']} → {done['after']} in {span(done['seconds'])}. {verdict} {told}."


def _end_emergency(service: Service, by: acts.Operator, _: dict[str, str]) -> str:
    done = acts.end_emergency(service, by)
    return f"Back to mode {done['after']}; maintenance is over."


def _retry(service: Service, by: acts.Operator, given: dict[str, str]) -> str:
    return f"{acts.retry(service, given['error_class'] or None, by)['retried']} failed tasks are tried again."


LEVERS: dict[str, Callable[[Service, acts.Operator, dict[str, str]], str]] = {
    "mode": _mode, "pause": _pause(True), "resume": _pause(False), "stop": _run(False), "start": _run(True), "emergency": _emergency,
    "end-emergency": _end_emergency, "retry": _retry,
}  # fmt: skip


@router.get("/cockpit/assets/{name}")
def asset(name: str) -> Response:
    if name not in ASSETS:
        raise Refusal(404, "not-found", "There is no such file", name[:40], "the cockpit is at /")
    text = files("embedq.http").joinpath("pages", name).read_text(encoding="utf-8")
    return Response(text, media_type=ASSETS[name], headers={"Cache-Control": "no-cache"})


def page(name: str, status: int, **facts: Any) -> Response:
    return HTMLResponse(pages.get_template(name).render(**facts), status, {"Content-Security-Policy": POLICY})
