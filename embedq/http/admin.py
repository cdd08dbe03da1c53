"""/admin: what an operator looks at and does (SPEC H2)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, Field

from ..decide.health import is_well
from ..maintenance import shown
from ..model import Mode
from ..wellbeing import Glance, glance
from . import acts
from .problems import told
from .service import Service, TheService, with_admin_token
from .shapes import NO_NUL, Strict, TenantId, with_example

router = APIRouter(prefix="/admin", tags=["operator"], dependencies=[Depends(with_admin_token)])

CHANGES = told(400, 401, 403, 409, 413, 422, 503)
LOOKS = told(401, 503)
WHY = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        pattern=NO_NUL,
        description="Why; kept in the audit log.",
        examples=["Redis is being replaced"],
    ),
]
Anything = dict[str, Any]
# Beyond these no calendar can add a length or change the zone.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Why(Strict):
    model_config = with_example(reason="Redis is being replaced")

    reason: WHY = "no reason was given"


class Because(Strict):
    model_config = with_example(reason="Redis lost its disk")

    reason: WHY


class ModeChange(Strict):
    model_config = with_example(mode="database", reason="Redis is being replaced")

    mode: Mode
    reason: WHY


class Requeue(Strict):
    model_config = with_example(status="failed", limit=100, reason="the provider is well again")

    tenant_id: TenantId | None = None
    status: Literal["failed", "skipped", "cancelled", "completed"] | None = Field(
        None, description="Null: failed, skipped and cancelled."
    )
    only_missing_embedding: bool = Field(
        default=False, strict=True, description="Only tasks of articles whose newest text has no vector."
    )
    backfill_ready: bool = Field(
        default=False, strict=True, description="Also give a task to articles without a vector that have none at all."
    )
    limit: int = Field(default=1000, strict=True, ge=1, le=1_000_000)
    reason: WHY = "requeued over HTTP"


class Window(Strict):
    model_config = with_example(
        starts_at="2030-05-01T22:00:00+00:00", minutes=30, pause_submissions=True, reason="PostgreSQL is upgraded"
    )

    starts_at: AwareDatetime = Field(ge=EARLIEST, le=LATEST, examples=["2030-05-01T22:00:00+00:00"])
    minutes: float | None = Field(default=None, strict=True, gt=0, le=525_600, description="Null: until somebody ends it.")
    pause_submissions: bool = Field(default=False, strict=True)
    reason: WHY


def operator(request: Request, reason: str) -> acts.Operator:
    return acts.Operator(request.client.host if request.client else "unknown", reason)


def told_by(seen: Glance) -> Anything:
    """The queue as `embedq status --json` tells it."""
    live = seen.live
    return {
        "mode": live["mode"], "is_running": live["is_running"], "reason": live.get("reason"), "by": live.get("changed_by"),
        "since": live.get("changed_at"), "submissions_accepted": live.get("submissions_accepted", True),
        "maintenance": shown(live.get("maintenance")), "paused_priorities": seen.facts.paused_priorities,
        "paused_tenants": seen.facts.paused_tenants, "open": seen.open, "about": seen.about, "rate_per_s": seen.rate, "eta_s": seen.eta_s,
        "oldest": seen.oldest, "tasks": seen.tasks, "broker": asdict(seen.peek) if seen.peek else None,
        "workers": seen.workers, "findings": [finding._asdict() for finding in seen.found],
    }  # fmt: skip


def look(service: Service) -> Glance:
    return glance(service.client.store, service.settings)


@router.get("/embedding/status", summary="What runs, what waits, what is wrong", responses=LOOKS)
def embedding_status(service: TheService) -> Anything:
    return told_by(look(service))


@router.post("/embedding/requeue", summary="Queue finished tasks again", responses=CHANGES)
def requeue(service: TheService, request: Request, wanted: Requeue) -> Anything:
    return acts.requeue(
        service, wanted.tenant_id, wanted.status, wanted.only_missing_embedding, wanted.backfill_ready, wanted.limit,
        operator(request, wanted.reason),
    )  # fmt: skip


@router.get("/queue/health", summary="Is the queue well?", responses=LOOKS)
def queue_health(service: TheService) -> Anything:
    """`well` is false when something needs an operator; each finding names the command that helps."""
    seen = look(service)
    return {"well": is_well(seen.found), "findings": [finding._asdict() for finding in seen.found]}


@router.get("/queue/stats", summary="Depth, rates, latencies, failures", responses=LOOKS)
def queue_stats(service: TheService) -> Anything:
    overview = service.client.store.overview
    return {
        "depth": overview.depth(), "last_minute": overview.throughput(60.0), "last_hour": overview.throughput(3600.0),
        "failed": overview.failed_groups(limit=20), "rows": overview.about_rows(),
    }  # fmt: skip


@router.post("/queue/shutdown-workers", summary="Stop every worker's claims", responses=CHANGES)
def shutdown_workers(service: TheService, request: Request, why: Why | None = None) -> Anything:
    """When this answers, no worker can claim; what is in flight settles. `embedq start`, or the cockpit, goes on."""
    return acts.set_running(service, False, operator(request, (why or Why()).reason))


@router.post("/mode", summary="Switch the live mode", responses=CHANGES)
def mode(service: TheService, request: Request, wanted: ModeChange) -> Anything:
    """When this answers, no worker of a delivery that is off can claim."""
    return acts.change_mode(service, wanted.mode, operator(request, wanted.reason))


@router.post("/maintenance/emergency-mode", summary="Leave the broker now", responses=CHANGES)
def emergency_mode(service: TheService, request: Request, why: Because) -> Anything:
    """What the broker holds comes into the table, and pollers work from there; each step is told with its time."""
    return acts.emergency(service, operator(request, why.reason))


@router.post("/maintenance/disable-emergency-mode", summary="Back to the mode before", responses=CHANGES)
def disable_emergency_mode(service: TheService, request: Request, why: Why | None = None) -> Anything:
    return acts.end_emergency(service, operator(request, (why or Why()).reason))


@router.post("/maintenance/schedule", summary="Announce a maintenance window", responses=CHANGES)
def schedule(service: TheService, request: Request, window: Window) -> Anything:
    starts_at: datetime = window.starts_at
    return acts.schedule(service, starts_at, window.minutes, window.pause_submissions, operator(request, window.reason))


@router.post("/maintenance/pause-task-submission", summary="Save articles without tasks", responses=CHANGES)
def pause_task_submission(service: TheService, request: Request, why: Why | None = None) -> Anything:
    return acts.set_submissions(service, False, operator(request, (why or Why()).reason))


@router.post(
    "/maintenance/resume-task-submission", summary="Make tasks again, also for what was saved meanwhile", responses=CHANGES
)
def resume_task_submission(service: TheService, request: Request, why: Why | None = None) -> Anything:
    return acts.set_submissions(service, True, operator(request, (why or Why()).reason))
