"""/admin: status and actions for operators."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AliasChoices, AwareDatetime, Field

from ..decide.health import is_well
from ..model import Mode
from ..operations.status import ACTS, Glance, glance, told_by
from . import actions
from .fields import NO_NUL, WHOLE, Strict, TenantId, with_example
from .problems import told
from .routes import AuthorizedRoute
from .service import ADMIN_BEARER, Service, TheService

router = APIRouter(prefix="/admin", tags=["operator"], route_class=AuthorizedRoute, dependencies=[Depends(ADMIN_BEARER)])

CHANGES = told(409)
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
WEBHOOK = Annotated[
    str | None,
    Field(
        max_length=2000,
        pattern=r"^https?://[^\s\x00]+$",
        description="An http(s) URL that is told (POST, JSON) when it is scheduled, begins, fails and ends. It may fail; nothing else does.",
    ),
]
Anything = dict[str, Any]
# Beyond these datetime cannot add a duration or convert the time zone.
EARLIEST, LATEST = datetime(1999, 12, 30, tzinfo=UTC), datetime(2200, 1, 2, tzinfo=UTC)


def _minutes(about: str) -> Any:
    """A field for a length of time, a year at most; `about`: its description."""
    alias = AliasChoices("minutes", "duration")
    return Field(default=None, validation_alias=alias, strict=True, gt=0, le=525_600, description=about)


class Why(Strict):
    model_config = with_example(reason="Redis is being replaced")

    reason: WHY = "no reason was given"


class Pause(Strict):
    model_config = with_example(reason="Redis is being replaced", minutes=30)

    reason: WHY = "no reason was given"
    minutes: float | None = _minutes("It ends by itself then. Null: until it is resumed. `duration` is another name.")
    webhook: WEBHOOK = None


class Because(Strict):
    model_config = with_example(reason="Redis lost its disk")

    reason: WHY
    webhook: WEBHOOK = None


class ModeChange(Strict):
    model_config = with_example(mode="database", reason="Redis is being replaced")

    mode: Mode
    reason: WHY


class Requeue(Strict):
    model_config = with_example(status="failed", limit=100, reason="the provider is well again")

    tenant_id: TenantId | None = None
    status: Literal["failed", "skipped", "cancelled", "completed", "queued", "processing", "ready"] | None = Field(
        None,
        description="Null: failed, skipped and cancelled. queued: sent to the broker anew; processing: handed back where a worker is dead or"
        " too slow; ready: a task for what is stale; these three also give a task to articles that have none and need one.",
    )
    only_missing_embedding: bool = Field(
        default=False, strict=True, description="Only tasks of articles whose newest text has no vector."
    )
    backfill_ready: bool = Field(
        default=False, strict=True, description="Also give a task to articles without a vector that have none at all."
    )
    limit: Annotated[int, Field(strict=True, ge=1, le=1_000_000), WHOLE] = 1000
    reason: WHY = "requeued over HTTP"


class Window(Strict):
    model_config = with_example(
        starts_at="2030-05-01T22:00:00+00:00", minutes=30, pause_submissions=True, reason="PostgreSQL is upgraded"
    )

    starts_at: AwareDatetime = Field(
        validation_alias=AliasChoices("starts_at", "start_time"),
        ge=EARLIEST,
        le=LATEST,
        examples=["2030-05-01T22:00:00+00:00"],
        json_schema_extra={"pattern": "^2[01][0-9]{2}-"},
    )
    minutes: float | None = _minutes("Null: until it is ended. `duration` is another name.")
    webhook: WEBHOOK = None
    notify_users: bool = Field(
        default=False,
        strict=True,
        description="Kept with the window, for the application: GET /health and the webhook show it.",
    )
    pause_submissions: bool = Field(default=False, strict=True)
    reason: WHY


def operator(request: Request, reason: str) -> actions.Operator:
    return actions.Operator(request.client.host if request.client else "unknown", reason)


def look(service: Service) -> Glance:
    return glance(service.client.store, service.settings)


@router.get("/embedding/status", summary="What runs, what waits, what is wrong")
def embedding_status(service: TheService) -> Anything:
    return told_by(look(service), service.client.store.audit.recent(ACTS))


@router.post("/embedding/requeue", summary="Queue finished tasks again", responses=CHANGES)
def requeue(service: TheService, request: Request, wanted: Requeue) -> Anything:
    return actions.requeue(
        service,
        wanted.tenant_id,
        wanted.status,
        wanted.only_missing_embedding,
        wanted.backfill_ready,
        wanted.limit,
        operator(request, wanted.reason),
    )


@router.get("/queue/health", summary="Is the queue well?")
def queue_health(service: TheService) -> Anything:
    """`well` is false when something needs an operator; each finding names the command that helps."""
    seen = look(service)
    return {"well": is_well(seen.found), "findings": [finding._asdict() for finding in seen.found]}


@router.get("/queue/stats", summary="Depth, rates, latencies, failures")
def queue_stats(service: TheService) -> Anything:
    overview = service.client.store.overview
    return {
        "depth": overview.depth(),
        "last_minute": overview.throughput(60.0),
        "last_hour": overview.throughput(3600.0),
        "failed": overview.failed_groups(limit=20),
        "rows": overview.about_rows(),
        "articles": overview.articles(),
    }


@router.post("/queue/shutdown-workers", summary="Stop every worker's claims", responses=CHANGES)
def shutdown_workers(service: TheService, request: Request, why: Why | None = None) -> Anything:
    """After the answer no worker can claim; tasks in flight settle. `embedq start` or the cockpit lets workers claim again."""
    return actions.set_running(service, False, operator(request, (why or Why()).reason))


@router.post("/mode", summary="Switch the live mode", responses=CHANGES)
def mode(service: TheService, request: Request, wanted: ModeChange) -> Anything:
    """After the answer no worker of a delivery that the mode turns off can claim."""
    return actions.change_mode(service, wanted.mode, operator(request, wanted.reason))


@router.post("/maintenance/emergency-mode", summary="Leave the broker now", responses=CHANGES)
def emergency_mode(service: TheService, request: Request, why: Because) -> Anything:
    """Tasks with the broker become free in the table, and pollers embed them; the answer lists each step with its duration."""
    return actions.emergency(service, operator(request, why.reason), why.webhook)


@router.post("/maintenance/disable-emergency-mode", summary="Back to the mode before", responses=CHANGES)
def disable_emergency_mode(service: TheService, request: Request, why: Why | None = None) -> Anything:
    return actions.end_emergency(service, operator(request, (why or Why()).reason))


@router.post("/maintenance/schedule", summary="Announce a maintenance window", responses=CHANGES)
def schedule(service: TheService, request: Request, window: Window) -> Anything:
    starts_at: datetime = window.starts_at
    return actions.schedule(
        service,
        starts_at,
        window.minutes,
        operator(request, window.reason),
        pause_submissions=window.pause_submissions,
        webhook=window.webhook,
        notify_users=window.notify_users,
    )


@router.post("/maintenance/pause-task-submission", summary="Save articles without tasks", responses=CHANGES)
def pause_task_submission(service: TheService, request: Request, wanted: Pause | None = None) -> Anything:
    """With `minutes`, as a maintenance window that ends by itself."""
    pause = wanted or Pause()
    by = operator(request, pause.reason)
    if pause.minutes is not None:
        return actions.pause_for(service, pause.minutes, pause.webhook, by)
    return actions.set_submissions(service, False, by)


@router.post(
    "/maintenance/resume-task-submission", summary="Make tasks again, also for what was saved meanwhile", responses=CHANGES
)
def resume_task_submission(service: TheService, request: Request, why: Why | None = None) -> Anything:
    return actions.set_submissions(service, True, operator(request, (why or Why()).reason))
