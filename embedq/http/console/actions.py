"""Actions of the console's forms. Each needs a session, the page's form token, a scope that may act, and a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Form
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...errors import EmbedqError, InputError, NotFound
from ...model import Priority
from ...operations import task_actions
from ...operations.backfill import refuse_where_no_tasks_are_made
from ...store.bulk import Picked
from ...store.repairs import Which
from .. import actions, cockpit, session
from ..actions import Operator
from ..fields import NO_NUL
from ..rendering import THEME, THEMES
from ..service import Service
from .visit import ConsoleRoute, TheVisit, Visit, new_router

CANARY_S = 10.0
STARTABLE = ("emergency", "undo")
YEAR_S = 365 * 86_400

Text = Annotated[str, Field(max_length=500, pattern=NO_NUL)]


class Order(BaseModel):
    """A form's fields. `back`: the page to show afterwards; `key`: the object of the action; the others as in the filter of tasks."""

    form: Text = ""
    reason: Text = ""
    sure: Text = ""
    back: Annotated[str, Field(max_length=4000, pattern=NO_NUL)] = "/"
    key: Text = ""
    version: Text = ""
    theme: Text = ""
    status: Text = ""
    priority: Text = ""
    tenant: Text = ""
    source: Text = ""
    article: Text = ""
    error: Text = ""
    newer: Text = ""
    older: Text = ""
    text: Text = ""
    task: Text = ""
    sort: Text = ""


TheOrder = Annotated[Order, Form()]


class FormRoute(ConsoleRoute):
    """Refuses requests without a session, and those whose token may only read, before the form is read."""

    async def refusal(self, service: Service, request: Request) -> Response | None:
        return await cockpit.refused(service, request, to_act=True)


router = new_router()
forms = new_router(FormRoute)


def done_by(visit: Visit, order: Order, act: Callable[[Operator], str]) -> str:
    """The action's result in words, or why it was not done. Raises Refusal for a form of another page."""
    cockpit.own_form(visit.service, visit.request, order.form)
    try:
        if not order.reason.strip():
            raise InputError("an act needs its reason", hint="say why; the audit log keeps it", field="reason")
        return act(Operator(cockpit.host_of(visit.request), order.reason.strip()))
    except EmbedqError as refused:
        return f"Not done: {refused} — {refused.hint}"


def shown_at(visit: Visit, path: str, said: str) -> Response:
    """Redirect to the page with the result as a signed parameter: only text signed for this session is shown."""
    seal = session.form_token(visit.service.admission, visit.cookie, said)
    sign = "&" if "?" in path else "?"
    return RedirectResponse(session.own_path(path) + sign + urlencode({"said": said, "seal": seal}), 303)


@router.post("/console/theme")
def theme(order: TheOrder) -> Response:
    """Dark, light, or as the system has it."""
    answer: Response = RedirectResponse(session.own_path(order.back), 303)
    if order.theme in THEMES:
        answer.set_cookie(THEME, order.theme, max_age=YEAR_S, httponly=True, samesite="strict")
    else:
        answer.delete_cookie(THEME, httponly=True, samesite="strict")
    return answer


@forms.post("/console/do/{act}")
def do(visit: TheVisit, order: TheOrder, act: str) -> Response:
    """Perform one action, then show the page that it came from, with the result."""
    if act not in LEVERS:
        raise NotFound(f"there is no act {act[:40]!r}", hint="the pages of the console show what can be done")
    return shown_at(visit, order.back, done_by(visit, order, lambda by: LEVERS[act](visit.service, by, order)))


def _pause(paused: bool) -> Callable[[Service, Operator, Order], str]:
    def change(service: Service, by: Operator, order: Order) -> str:
        if order.key not in tuple(Priority):
            raise InputError(f"{order.key!r} is no queue", hint=f"choose one of: {', '.join(Priority)}", field="key")
        now = actions.set_paused(service, [Priority(order.key)], paused, by)["paused_priorities"]
        return f"Paused now: {', '.join(now) or 'nothing'}."

    return change


def _retry_with_canary(service: Service, by: Operator, order: Order) -> str:
    """One task of the class first; the others when it was embedded."""
    store = service.client.store
    picked = Picked(("failed",), error_class=order.key, newest=True)
    act = task_actions.reviving("retry", by.who, by.reason)
    first, rest = task_actions.revive(store, picked, act, canary_s=CANARY_S)
    if not first.ids:
        return f"No failed task of the class {order.key} can be tried again."
    return f"The canary, task {first.ids[0]}, was embedded; {rest.total:,} others are tried again."


def _reindex(service: Service, by: Operator, order: Order) -> str:
    store = service.client.store
    refuse_where_no_tasks_are_made(store)
    made = store.repairs.reindex(Which(store.repairs.named([order.key], None)), Priority.HIGH)
    store.audit.write(
        "reindex", f"{made} articles are embedded anew", who=by.who, reason=by.reason, counts={"made": made}, ids=[order.key]
    )
    return "The article is embedded anew; search finds it meanwhile." if made else "It has a waiting task already."


def _restore(service: Service, by: Operator, order: Order) -> str:
    if not order.version.isdecimal() or len(order.version) > 9:
        raise InputError(f"{order.version!r} is no version", hint="the page of the article lists them", field="version")
    found = service.client.restore(order.key, int(order.version), reason="restore")
    service.client.store.audit.write("restore", f"version {order.version} of {order.key} is back", who=by.who, reason=by.reason)
    return f"The text of version {order.version} is back, as version {found.version}."


def _activate(service: Service, by: Operator, order: Order) -> str:
    models = service.client.store.models
    chosen = models.named(order.key)
    progress = models.activate(chosen, who=by.who, why=by.reason)
    models.hurry(chosen)
    return f"Search follows {chosen} now; {progress.missing:,} articles have no vector of it yet."


def _model_back(service: Service, by: Operator, _: Order) -> str:
    models = service.client.store.models
    chosen, progress = models.rollback(who=by.who, why=by.reason)
    models.hurry(chosen)
    return f"Search follows {chosen} again; {progress.missing:,} articles have no vector of it yet."


def _procedure(service: Service, by: Operator, order: Order) -> str:
    """A procedure that ends within seconds; the others must be started by a command."""
    if order.key not in STARTABLE:
        raise InputError(
            f"{order.key[:40]!r} is not started from a page", hint=f"`embedq rollback {order.key[:40]}`", field="key"
        )
    done = actions.perform_procedure(service, order.key, by)
    verdict = "nothing is missing" if done["verified"] else "verify is NOT content: embedq verify"
    return f"{order.key}: {done['before']} → {done['after']} in {done['seconds']:.1f} s; {verdict}."


LEVERS: dict[str, Callable[[Service, Operator, Order], str]] = {
    "pause": _pause(True),
    "resume": _pause(False),
    "canary": _retry_with_canary,
    "reindex": _reindex,
    "restore": _restore,
    "activate": _activate,
    "model-back": _model_back,
    "procedure": _procedure,
}
