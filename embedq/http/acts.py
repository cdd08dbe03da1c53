"""What an operator does through the service: the same acts as the commands', with the request's id in the audit log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .. import maintenance
from ..embedded import default_home
from ..errors import InputError, NotFound
from ..logs import request_id
from ..model import Mode, Priority
from ..rollback.kinds import options_of, procedure
from ..rollback.procedure import Scene, perform
from ..settings import home_of
from ..store.operate import FINISHED, Act, Picked
from ..switching import live_mode, switch

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger(__name__)

RETRIABLE = ("failed", "skipped", "cancelled")

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, and why. `who` is what the audit log names; it holds the request's id, by which the log tells the rest."""

    peer: str
    reason: str

    @property
    def who(self) -> str:
        return f"admin@{self.peer} (HTTP {request_id.get()[:12]})"


def change_mode(service: Service, mode: Mode, by: Operator) -> Answer:
    done = switch(service.client.store, mode, by.reason, by.who)
    return {
        "before": done.before, "after": done.after, "fenced_s": done.fenced_s, "tasks_freed": done.freed, "tasks_made": done.made,
        "tasks_in_flight": done.in_flight, "warnings": done.warnings,
    }  # fmt: skip


def set_running(service: Service, running: bool, by: Operator) -> Answer:
    before, _ = service.client.store.operate.set_running(running, by.who, by.reason)
    service.client.store.operate.wake()
    return {"is_running": running, "was_running": bool(before.get("is_running"))}


def set_paused(service: Service, priorities: list[Priority], paused: bool, by: Operator) -> Answer:
    """Pause these priorities, or end their pause; with none named, all of them."""
    store = service.client.store
    names = [priority.value for priority in priorities or Priority]
    change = {"priorities": (names, []) if paused else ([], names), "tenants": ([], [])}
    _, after = store.operate.set_paused(change, by.who, by.reason, "pause" if paused else "resume")
    store.operate.wake()
    return {"paused_priorities": after["priorities"]}


def set_submissions(service: Service, accepted: bool, by: Operator) -> Answer:
    """While they are paused articles are saved without tasks; when they go on, these get theirs."""
    store = service.client.store
    live = store.status.live() or {}
    store.status.set_maintenance(live.get("maintenance"), by.who, accepted=accepted)
    made = store.care.reconcile_if_tasks_are_made() if accepted else 0
    words = "go on" if accepted else "are paused"
    store.audit.write("maintenance", f"submissions {words}: {by.reason}", who=by.who, reason=by.reason, made=made)
    store.switches.wake()
    return {"submissions_accepted": accepted, "tasks_made": made}


def schedule(service: Service, starts_at: datetime, minutes: float | None, pause: bool, by: Operator) -> Answer:
    length = None if minutes is None else timedelta(minutes=minutes)
    window = maintenance.schedule(
        service.client.store, starts_at.astimezone(UTC), length, by.reason, by.who, pause_submissions=pause
    )
    return {"maintenance": maintenance.shown(window)}


def emergency(service: Service, by: Operator) -> Answer:
    """Off the broker in seconds (SPEC R1): the same procedure, with the same journal, as `embedq rollback emergency`."""
    return _performed(service, "emergency", by)


def end_emergency(service: Service, by: Operator) -> Answer:
    """Back to the mode before: the latest procedure is undone; where there was none, the latest switch is."""
    store = service.client.store
    try:
        done = _performed(service, "undo", by)
    except NotFound:
        latest = store.status.latest_switch()
        done = change_mode(service, Mode(latest["before"]) if latest else Mode.CELERY, by)
    window, made = maintenance.end(store, by.reason, by.who)
    return done | {"maintenance_ended": window is not None, "tasks_made": made}


def _performed(service: Service, kind: str, by: Operator) -> Answer:
    store, settings = service.client.store, service.settings
    folder = (home_of(settings) or default_home()) / "rollback"
    scene = Scene(store, service.client.broker, settings, by.who, by.reason, folder, say=log.info)
    options = options_of(kind, store, {})
    ended = perform(procedure(kind), scene, options)
    steps = [
        {"step": name, "state": note["state"], "seconds": note["seconds"], "message": note["message"]}
        for name, note in ended.run.notes.items()
    ]
    return {
        "run": ended.run.run, "before": options["mode_before"], "after": live_mode(store), "seconds": round(ended.seconds, 2),
        "verified": ended.exit_code == 0, "warnings": ended.warnings, "steps": steps,
    }  # fmt: skip


def requeue(
    service: Service, tenant: str | None, status: str | None, only_missing: bool, taskless: bool, limit: int, by: Operator
) -> Answer:
    """Finished tasks become pending again. `only_missing`: of articles whose newest text has no vector. `taskless`: such articles
    without any task get one."""
    if status is not None and status not in FINISHED:
        raise InputError(f"status {status!r} cannot be requeued", hint=f"one of: {', '.join(FINISHED)}", field="status")
    statuses = (status,) if status else FINISHED if only_missing else RETRIABLE
    tenants = [tenant] if tenant else None
    picked = Picked(statuses, tenants=tenants, newest=True, only_missing=only_missing)
    act = Act("revive_tasks", "requeue", by.who, by.reason, {"rate": None, "priority": None})
    store = service.client.store
    swept = store.operate.sweep(picked, act, limit=limit)
    made = 0
    if taskless and swept.total < limit:
        made = store.operate.want(store.operate.missing_without_task(tenants, limit - swept.total), None, "requeue")
        store.audit.write("requeue", f"{made} articles without a task got one", who=by.who, reason=by.reason)
    store.operate.wake()
    return {"requeued": swept.total, "made": made, "left": swept.left}


def retry(service: Service, error_class: str | None, by: Operator) -> Answer:
    """Every failed task of one class of error, or all of them, with a fresh allowance."""
    picked = Picked(("failed",), error_class=error_class, newest=True)
    act = Act("revive_tasks", "retry", by.who, by.reason, {"rate": None, "priority": None})
    swept = service.client.store.operate.sweep(picked, act)
    service.client.store.operate.wake()
    return {"retried": swept.total, "left": swept.left}
