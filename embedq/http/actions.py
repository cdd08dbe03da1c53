"""The operator's actions over HTTP: the same operations as the commands, with the request's id in the audit log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NotFound
from ..local.servers import default_home
from ..model import Mode, Priority
from ..operations import pauses, task_actions
from ..operations.authentication import acting
from ..operations.mode_switch import switch
from ..operations.requeue import OF_ARTICLES, of_articles
from ..operations.rollback.procedure import Scene, perform
from ..operations.rollback.procedures import options_of, procedure
from ..settings import home_of
from ..steward import maintenance_window
from ..store.bulk import FINISHED, RETRIABLE, Picked
from ..store.control import Pauses
from ..telemetry.logs import request_id

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger(__name__)

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, and why. `who` goes to the audit log: the token's name, the client's address, the request's id (in the service's log too)."""

    peer: str
    reason: str

    @property
    def who(self) -> str:
        return f"{acting.get().name}@{self.peer} (HTTP {request_id.get()[:12]})"


def change_mode(service: Service, mode: Mode, by: Operator) -> Answer:
    done = switch(service.client.store, mode, by.reason, by.who)
    return {
        "before": done.before,
        "after": done.after,
        "fenced_s": done.fenced_s,
        "tasks_freed": done.freed,
        "tasks_made": done.made,
        "tasks_in_flight": done.in_flight,
        "warnings": done.warnings,
    }


def set_running(service: Service, running: bool, by: Operator) -> Answer:
    before = service.client.store.status.set_running(running, by.reason, by.who).before
    service.client.store.workers.wake()
    return {"is_running": running, "was_running": before.is_running}


def set_paused(service: Service, priorities: list[Priority], paused: bool, by: Operator) -> Answer:
    """Pause these priorities, or end their pause; with none named, all of them."""
    names = [priority.value for priority in priorities or Priority]
    change: Pauses = {"priorities": (names, []) if paused else ([], names), "tenants": ([], [])}
    _, after = pauses.change(service.client.store, change, by.reason, by.who, "pause" if paused else "resume")
    return {"paused_priorities": after["priorities"]}


def set_submissions(service: Service, accepted: bool, by: Operator) -> Answer:
    """While submissions are paused, articles are saved without tasks; the tasks are made when submissions are accepted again."""
    made = maintenance_window.set_submissions(service.client.store, accepted, by.reason, by.who)
    return {"submissions_accepted": accepted, "tasks_made": made}


def schedule(
    service: Service,
    starts_at: datetime,
    minutes: float | None,
    by: Operator,
    *,
    pause_submissions: bool = False,
    webhook: str | None = None,
    notify_users: bool = False,
) -> Answer:
    length = None if minutes is None else timedelta(minutes=minutes)
    window = maintenance_window.schedule(
        service.client.store,
        starts_at.astimezone(UTC),
        length,
        by.reason,
        by.who,
        pause_submissions=pause_submissions,
        webhook=webhook,
        notify_users=notify_users,
    )
    return {"maintenance": maintenance_window.shown(window), "webhook_failed": maintenance_window.announce(window, "scheduled")}


def pause_for(service: Service, minutes: float, webhook: str | None, by: Operator) -> Answer:
    """Submissions are paused as a maintenance window, which a running worker's steward ends."""
    length = timedelta(minutes=minutes)
    window = maintenance_window.start(service.client.store, length, by.reason, by.who, pause_submissions=True, webhook=webhook)
    failed = maintenance_window.announce(window, "started")
    return {
        "submissions_accepted": False,
        "tasks_made": 0,
        "maintenance": maintenance_window.shown(window),
        "webhook_failed": failed,
    }


def emergency(service: Service, by: Operator, webhook: str | None = None) -> Answer:
    """Stop using the broker, within seconds: the same procedure, with the same journal, as `embedq rollback emergency`."""
    return perform_procedure(service, "emergency", by, webhook)


def end_emergency(service: Service, by: Operator) -> Answer:
    """Back to the mode before: the latest procedure is undone; where there was none, the latest switch is."""
    store = service.client.store
    try:
        done = perform_procedure(service, "undo", by)
    except NotFound:
        latest = store.status.latest_switch()
        done = change_mode(service, Mode(latest["before"]) if latest else Mode.CELERY, by)
    window, made = maintenance_window.end(store, by.reason, by.who)
    return done | {"maintenance_ended": window is not None, "tasks_made": made}


def perform_procedure(service: Service, kind: str, by: Operator, webhook: str | None = None) -> Answer:
    """A rollback procedure with its usual options, to its end."""
    store, settings = service.client.store, service.settings
    folder = (home_of(settings) or default_home()) / "rollback"
    scene = Scene(store, service.client.broker, settings, by.who, by.reason, folder, say=log.info, webhook=webhook)
    options = options_of(kind, store, {})
    ended = perform(procedure(kind), scene, options)
    steps = [
        {"step": name, "state": note["state"], "seconds": note["seconds"], "message": note["message"]}
        for name, note in ended.run.notes.items()
    ]
    return {
        "run": ended.run.run,
        "before": options["mode_before"],
        "after": store.status.live().mode,
        "seconds": round(ended.seconds, 2),
        "verified": ended.exit_code == 0,
        "warnings": [*ended.wrong, *ended.warnings],
        "webhook_failed": scene.untold,
        "steps": steps,
    }


def requeue(
    service: Service, tenant: str | None, status: str | None, only_missing: bool, taskless: bool, limit: int, by: Operator
) -> Answer:
    """Finished tasks become pending again; for a status of articles, see `operations.requeue`.

    `only_missing`: of articles whose newest text has no vector. `taskless`: such articles
    without any task get one."""
    if status in OF_ARTICLES:
        held_s = service.settings.worker_timeout_s
        done = of_articles(
            service.client.store, status, [tenant] if tenant else None, limit, who=by.who, reason=by.reason, held_s=held_s
        )
        return {"requeued": done.freed + done.revived, "freed": done.freed, "made": done.made, "left": done.left}
    if status is not None and status not in FINISHED:
        raise InputError(f"status {status!r} cannot be requeued", hint=f"one of: {', '.join(FINISHED)}", field="status")
    statuses = (status,) if status else FINISHED if only_missing else RETRIABLE
    tenants = [tenant] if tenant else None
    picked = Picked(statuses, tenants=tenants, newest=True, only_missing=only_missing)
    store = service.client.store
    _, swept = task_actions.revive(store, picked, task_actions.reviving("requeue", by.who, by.reason), limit=limit)
    made = 0
    if taskless and swept.total < limit:
        _, made = task_actions.make_missing(store, tenants or (), limit - swept.total, None, by.who, by.reason)
        store.workers.wake()
    return {"requeued": swept.total, "made": made, "left": swept.left}


def retry(service: Service, error_class: str | None, by: Operator) -> Answer:
    """Every failed task of one class of error, or all of them, with a fresh allowance."""
    picked = Picked(("failed",), error_class=error_class, newest=True)
    _, swept = task_actions.revive(service.client.store, picked, task_actions.reviving("retry", by.who, by.reason))
    return {"retried": swept.total, "left": swept.left}
