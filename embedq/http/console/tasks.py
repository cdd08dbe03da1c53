"""`/tasks`: every task by filter, page by page; `/tasks/act/{act}`: the same filter retried, cancelled or discarded."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ...errors import InputError, NotFound
from ...operations import task_actions
from ...store.bulk import Swept, told_states
from ...store.console import COUNTED, Cursor, Page
from ...store.console import Order as Sorted
from ..actions import Operator
from .actions import FormRoute, TheOrder, done_by, shown_at
from .filters import OF_ACT, TaskFilter, cursor_of, cursor_text, done, filter_of, shown_choices
from .visit import TheVisit, Visit, new_router

router, forms = new_router(), new_router(FormRoute)

# The most tasks that one submission changes, so that the answer comes within seconds.
AT_ONCE = 20_000


@router.get("/tasks")
def tasks(visit: TheVisit) -> Response:
    """An invalid filter is reported above an empty list."""
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
    """How many tasks the action would change, and the form to confirm it."""
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
    """Apply the action to all tasks that match now, then show the list with the result."""
    _check_act(act)
    wanted = filter_of(order.model_dump())

    def sweep(by: Operator) -> str:
        if not order.sure:
            raise InputError("the act was not confirmed", hint="tick the box beside the button", field="sure")
        return _swept(act, _sweep(visit, act, wanted, by))

    return shown_at(visit, f"/tasks/{wanted.task}" if wanted.task else f"/tasks?{wanted.query()}", done_by(visit, order, sweep))


def _sweep(visit: Visit, act: str, wanted: TaskFilter, by: Operator) -> Swept:
    store = visit.service.client.store
    swept = store.operate.sweep(wanted.picked_for(act, store), task_actions.act_of(act, by.who, by.reason), limit=AT_ONCE)
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
