"""What workers and the steward do: claims and settles of both deliveries, and the chores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embedq.model import Claimed, Delivery, Outcome, Priority, TaskStatus

from .operation import STEWARD, WORKER, enter, operation
from .stage import Stage
from .states import HELD

# Workers ---------------------------------------------------------------------------------------------------------------------------


@operation(WORKER, "pending", "returned", "successor", "celery", "pending_isolated")
def claim(stage: Stage) -> list[Claimed]:
    return stage.poll(stage.store(), stage.scene.second)


@operation(WORKER, "pending", "returned", "successor", "three_held", "hybrid")
def work(stage: Stage) -> None:
    store = stage.store()
    tasks = stage.poll(store, stage.scene.second)
    if tasks:
        stage.settle(store, stage.scene.second, [stage.embed(task) for task in tasks])


@operation(WORKER, "celery", "hybrid", "pending")
def claim_named(stage: Stage) -> list[Claimed]:
    tasks = stage.store().tasks.claim_named(stage.scene.first, Delivery.CELERY, [1], 100)
    return stage.claimed(Delivery.CELERY, tasks)


@operation(WORKER, "hybrid")
def claim_overdue(stage: Stage) -> list[Claimed]:
    return stage.claimed(Delivery.POLLER, stage.store().tasks.claim_overdue(stage.scene.second, 100, 5.0))


@operation(WORKER, *HELD)
def settle_embedded(stage: Stage) -> None:
    stage.settle(stage.store(), stage.scene.first, [stage.bought(task) for task in stage.scene.held])


@operation(WORKER, "returned_held", "both_held")
def settle_second(stage: Stage) -> None:
    """What the second worker holds; of `returned_held` it is settled without asking, because the stored vector is of its text."""
    stage.settle(stage.store(), stage.scene.second, [stage.embed(task) for task in stage.scene.held_by_second])


def settled(status: TaskStatus, **more: Any) -> Callable[[Stage], None]:
    def act(stage: Stage) -> None:
        outcomes = [Outcome(task, status, **more) for task in stage.scene.held]
        stage.settle(stage.store(), stage.scene.first, outcomes)

    return act


enter(
    "settle_failed",
    WORKER,
    settled(TaskStatus.FAILED, charged=True, error_class="InputRefused", message="no"),
    ("held", "successor", "three_held"),
    excuses=("failed",),
)
enter(
    "settle_waits",
    WORKER,
    settled(TaskStatus.PENDING, wait_s=0.0, message="busy"),
    ("held", "successor", "three_held", "celery_held"),
)
enter(
    "settle_skipped",
    WORKER,
    settled(TaskStatus.SKIPPED, error_class="EmptyText", message="no text"),
    ("held", "successor"),
    excuses=("skipped",),
)

# The steward -----------------------------------------------------------------------------------------------------------------------


@operation(STEWARD, "lost", "three_lost", "successor")
def rescue(stage: Stage) -> None:
    stage.store(worker=False).tasks.rescue(300.0)


@operation(STEWARD, "three_stale", "pending", "held_edit", "returned", "building", "embedded_one")
def reconcile(stage: Stage) -> None:
    stage.store(worker=False).care.reconcile()


@operation(STEWARD, "celery", "hybrid")
def dispatch(stage: Stage) -> None:
    stage.store(worker=False).tasks.dispatch(Priority.NORMAL, 100)


@operation(STEWARD, "celery", "hybrid")
def free_dispatched(stage: Stage) -> None:
    stage.store(worker=False).tasks.free_dispatched(0.5)


@operation(STEWARD, "celery")
def free_lost(stage: Stage) -> None:
    stage.store(worker=False).tasks.free_lost(Priority.NORMAL, 5.0, first=None, held=[], again=[])


@operation(WORKER, "celery", "hybrid")
def free(stage: Stage) -> None:
    stage.store().tasks.free([1])


@operation(STEWARD, "old", "embedded_one", "failed_twice")
def clean_up(stage: Stage) -> None:
    stage.store(worker=False).care.clean_up(30)


@operation(STEWARD, "lost")
def bury(stage: Stage) -> None:
    stage.store(worker=False).workers.bury(60.0)
