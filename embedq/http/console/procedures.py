"""`/procedures`: past runs, each step with its duration; what each procedure would do now; and a form to start `emergency`."""

from __future__ import annotations

from starlette.responses import Response

from ...errors import NotFound
from ...local.servers import default_home
from ...operations.rollback.procedure import Scene, planned_steps
from ...operations.rollback.procedures import KINDS, options_of, procedure
from ...operations.rollback.report import report
from ...settings import home_of
from ...store.procedures import Run
from .actions import STARTABLE
from .visit import TheVisit, Visit, new_router

router = new_router()

SHOWN = 20


@router.get("/procedures")
def procedures(visit: TheVisit) -> Response:
    """With `plan` in the address, also what that procedure would do now; nothing is done."""
    kind = visit.request.query_params.get("plan", "")
    runs = visit.service.client.store.procedures.latest(SHOWN)
    plan = _plan(visit, kind) if kind else None
    return visit.page(
        "procedures.html", runs=runs, kinds=tuple(KINDS.values()), kind=kind, plan=plan, startable=kind in STARTABLE
    )


@router.get("/procedures/{run:path}")
def one(visit: TheVisit, run: str) -> Response:
    store = visit.service.client.store
    found: list[Run] = [each for each in store.procedures.latest(1000) if each.run == run]
    if not found:
        raise NotFound(f"there is no procedure {run[:40]}", hint="the page of procedures lists them")
    return visit.page("procedure.html", r=report(store, found[0]))


def _plan(visit: Visit, kind: str) -> dict[str, object]:
    """Each step with what it would do and about how long that takes (seconds). Raises NotFound."""
    service, its = visit.service, procedure(kind)
    store = service.client.store
    folder = (home_of(service.settings) or default_home()) / "rollback"
    scene = Scene(store, service.client.broker, service.settings, "the console", "", folder)
    scene.options = options_of(kind, store, {})
    steps = planned_steps(its, scene)
    return {"its": its, "steps": steps, "takes_s": sum(step["takes_s"] for step in steps)}
