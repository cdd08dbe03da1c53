"""`/tasks`: every task by filter, page by page; `/tasks/act/{act}`: the same filter retried, cancelled or discarded."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ...errors import InputError, NotFound
from ...store.bulk import Act, Swept, told_states
from ...store.console import COUNTED, Cursor, Page
from ...store.console import Order as Sorted
from ..acts import Operator
from .acts import FormDoor, TheOrder, done_by, shown_at
from .filters import OF_ACT, TaskFilter, cursor_of, cursor_text, done, filter_of, shown_choices
from .visit import TheVisit, Visit, new_router

router, forms = new_router(), new_router(FormDoor)

# One submission changes no more than so many tasks: the answer comes within seconds.
AT_ONCE = 20_000
STATEMENTS = {"retry": "revive_tasks", "cancel": "cancel_tasks", "discard": "discard_tasks"}


@router.get("/tasks")
def tasks(visit: TheVisit) -> Response:
    """A filter that cannot be understood is told above an empty list."""
    query, store = visit.request.query_params, visit.service.client.store
    try:
        wanted, cursor = filter_of(query), cursor_of(query.get("after", ""))
        found = store.console.tasks(wanted.picked(store), Sorted(wanted.sort), cursor)
    except InputError as wrong:
        complaint = f"{wrong} — {wrong.hint}"
        return visit.page(
            "tasks.html", 422, complaint=complaint, f=TaskFilter(), page=Page([]), total=0, acts=(), **shown_choices()
        )
    return visit.page("tasks.html", **_facts(visit, wanted, cursor, found))


def _facts(visit: Visit, wanted: TaskFilter, cursor: Cursor | None, found: Page) -> dict[str, Any]:
    store = visit.service.client.store
    whole = cursor is None and found.following is None
    total = len(found.rows) if whole else store.console.estimate(wanted.picked(store))
    return {
        "f": wanted,
        "page": found,
        "total": total,
        "about": not whole,
        "first": cursor is None,
        "acts": tuple(OF_ACT),
        "next": wanted.query(after=cursor_text(found.following)) if found.following else "",
        **shown_choices(),
    }


@router.get("/tasks/act/{act}")
def confirm(visit: TheVisit, act: str) -> Response:
    """How many tasks the act would change, and the form that does it."""
    _check_act(act)
    store, wanted = visit.service.client.store, filter_of(visit.request.query_params)
    number = store.console.count(wanted.picked_for(act, store), COUNTED + 1)
    told = f"more than {COUNTED:,}" if number > COUNTED else f"{number:,}"
    return visit.page(
        "confirm.html",
        act=act,
        f=wanted,
        number=number,
        counted=told,
        command=wanted.command(act),
        done=done(act),
        at_once=AT_ONCE,
    )


@forms.post("/tasks/act/{act}")
def do(visit: TheVisit, order: TheOrder, act: str) -> Response:
    """The act on everything that matches now, then the list again with what came of it."""
    _check_act(act)
    wanted = filter_of(order.model_dump())

    def sweep(by: Operator) -> str:
        if not order.sure:
            raise InputError("the act was not confirmed", hint="tick the box beside the button", field="sure")
        return _swept(act, _sweep(visit, act, wanted, by))

    return shown_at(visit, f"/tasks/{wanted.task}" if wanted.task else f"/tasks?{wanted.query()}", done_by(visit, order, sweep))


def _sweep(visit: Visit, act: str, wanted: TaskFilter, by: Operator) -> Swept:
    store = visit.service.client.store
    values = {"rate": None, "priority": None} | {"words": f"cancelled by {by.who}: {by.reason}"}
    what = Act(STATEMENTS[act], act, by.who, by.reason, values)
    swept = store.operate.sweep(wanted.picked_for(act, store), what, limit=AT_ONCE)
    store.workers.wake()
    return swept


def _swept(act: str, swept: Swept) -> str:
    more = f" {swept.left:,} more are locked by others: do it again." if swept.left else ""
    if not swept.total:
        return f"No task was {done(act)}.{more}"
    more += f" No more than {AT_ONCE:,} are changed at once: do it again for the rest." if swept.total == AT_ONCE else ""
    return f"{done(act).capitalize()}: {swept.total:,} tasks ({told_states(swept.states)}).{more}"


def _check_act(act: str) -> None:
    if act not in OF_ACT:
        raise NotFound(f"there is no act {act[:40]!r}", hint=f"there are: {', '.join(OF_ACT)}")
