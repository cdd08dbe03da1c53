"""The reasons why an article is not searchable yet, most decisive first. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..model import Delivery, Mode, TaskStatus
from .facts import Finding, Level
from .health import CELERY_COMMAND
from .modes import able, deliveries, dispatches, makes_tasks


class Place(StrEnum):
    """Where a pending task's message is."""

    TABLE = "in the table, not with the broker"
    QUEUED = "in its queue"
    DELIVERED = "delivered to a worker, not yet acknowledged"
    NOWHERE = "with no message in the broker"
    HELD_OR_LOST = "not waiting in its queue: a worker has it, or it is lost (RabbitMQ does not show which)"
    UNSEEN = "dispatched; the broker cannot be looked into"


@dataclass(frozen=True, slots=True)
class Case:
    """An article's task and the related state. Without a task `status` is None. Times are seconds; `due_in_s` may be negative.
    `celery_workers` counts those that consume the task's queue."""

    ready: bool
    status: TaskStatus | None
    mode: Mode
    live_row_missing: bool = False
    is_running: bool = True
    submissions_accepted: bool = True
    is_paused: bool = False
    due_in_s: float = 0.0
    place: Place = Place.TABLE
    priority: str = "normal"
    celery_workers: int = 0
    pollers: int = 0
    worker: str | None = None
    worker_alive: bool = True
    claimed_s_ago: float = 0.0
    provider_why: str | None = None
    provider_left_s: float = 0.0
    error: str | None = None
    task: int | None = None

    @property
    def named(self) -> str:
        """The task's key as a command accepts it."""
        return "TASK" if self.task is None else str(self.task)


def reasons(case: Case) -> list[Finding]:
    """The reasons; never empty: the last one says that the task is about to be claimed."""
    if case.ready:
        return [Finding(Level.NOTE, "it is searchable: the newest text has its vector", "nothing to do")]
    match case.status:
        case None:
            return [_without_task(case)]
        case TaskStatus.PENDING:
            return list(_waiting(case)) or [Finding(Level.NOTE, "it is due, and will be claimed next", "embedq wait")]
        case TaskStatus.PROCESSING:
            return [_held(case)]
    return [_finished(case)]


def _without_task(case: Case) -> Finding:
    if not makes_tasks(case.mode):
        what = f"it was saved while the mode was {case.mode}: no task was made"
        return Finding(Level.NOTE, what, "embedq mode celery --reason …")
    if not case.submissions_accepted:
        return Finding(Level.NOTE, "submissions are paused: it becomes a task when they are not", "embedq maintenance status")
    return Finding(Level.PROBLEM, "it has no open task for its newest text", "embedq reconcile")


def _waiting(case: Case) -> Iterator[Finding]:
    found = [*_forbidden(case), *_delivery(case)]
    hindered = any(each.level is Level.PROBLEM for each in found)
    if case.due_in_s > 0:
        after = f" after: {case.error}" if case.error else ""
        step = "nothing to do" if hindered else f"`embedq retry {case.named}` does it now"
        found.append(Finding(Level.NOTE, f"it is tried again in {case.due_in_s:.0f} s{after}", step))
    yield from found


def _forbidden(case: Case) -> Iterator[Finding]:
    if case.live_row_missing:
        yield Finding(
            Level.PROBLEM, "the live row (embedding_worker_status) is gone: nothing can be claimed", "embedq start --reason …"
        )
    elif not case.is_running:
        yield Finding(Level.PROBLEM, "everything is stopped (is_running is false)", "embedq start --reason …")
    if not deliveries(case.mode):
        yield Finding(Level.PROBLEM, f"the mode is {case.mode}: no worker may claim", "embedq mode celery --reason …")
    if case.is_paused:
        yield Finding(Level.PROBLEM, "its priority or its tenant is paused", "embedq resume")
    if case.provider_why is not None:
        what = f"its provider is in trouble, asked again in {max(0.0, case.provider_left_s):.0f} s: {case.provider_why}"
        yield Finding(Level.PROBLEM, what, "embedq provider check")


def _delivery(case: Case) -> Iterator[Finding]:
    allowed = deliveries(case.mode)
    if allowed and not able(case.mode, case.celery_workers, case.pollers):
        if Delivery.CELERY not in allowed:
            yield Finding(Level.PROBLEM, "no poller is alive", "embedq poller")
        else:
            yield Finding(Level.PROBLEM, f"no living Celery worker consumes the queue {case.priority}", CELERY_COMMAND)
    if case.place is Place.NOWHERE and dispatches(case.mode):
        what = "it was dispatched and its message is gone: the steward of a running worker frees it within seconds"
        yield Finding(Level.NOTE, what, "embedq broker rebuild --yes")


def _held(case: Case) -> Finding:
    if not case.worker_alive:
        what = f"its worker {case.worker or '(unknown)'} is dead: a running worker's steward takes it back"
        return Finding(Level.PROBLEM, what, "embedq reset-stuck")
    return Finding(Level.NOTE, f"{case.worker} has held it for {case.claimed_s_ago:.0f} s", "embedq wait")


def _finished(case: Case) -> Finding:
    match case.status:
        case TaskStatus.FAILED:
            step = f"when the cause is gone: `embedq retry {case.named}`; when the text is to blame: edit the article, or "
            step += f"`embedq dead-letter discard {case.named} --yes --reason …`"
            return Finding(Level.PROBLEM, f"its task failed: {case.error}", step)
        case TaskStatus.SKIPPED:
            return Finding(Level.NOTE, f"it was skipped: {case.error}", f"edit the article, or `embedq retry {case.named}`")
        case TaskStatus.CANCELLED:
            return Finding(
                Level.NOTE, f"its task was cancelled: {case.error or 'no reason is known'}", f"embedq retry {case.named}"
            )
    return Finding(Level.PROBLEM, "its last task is completed and the newest text has no vector", "embedq reconcile")


def attempts_told(errors: Sequence[dict[str, object]]) -> list[tuple[object, ...]]:
    """One row for each attempt that failed: at, attempt, class, message, worker, delivery."""
    return [tuple(error.get(key) for key in ("at", "attempt", "class", "message", "worker", "delivery")) for error in errors]
