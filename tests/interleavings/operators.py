"""What operators do by commands, through the same functions as the commands."""

from __future__ import annotations

from collections.abc import Callable

from embedq.model import Delivery, Mode, Model, Priority
from embedq.operations.mode_switch import hand_over_of, switch
from embedq.store.bulk import Act, Picked
from embedq.store.repairs import Which

from .operation import OPERATOR, enter, operation
from .stage import Stage
from .states import HELD

# Operators -------------------------------------------------------------------------------------------------------------------------


@operation(OPERATOR, *HELD)
def hand_over(stage: Stage) -> None:
    hand_over_of(stage.store(worker=False), list(Delivery), "explorer", "explorer")


def fence(before: Mode, after: Mode) -> Callable[[Stage], None]:
    def act(stage: Stage) -> None:
        switch(stage.store(worker=False), after, "explorer", "explorer", wait_s=0.0)
        stage.fenced(before, after)

    return act


DATABASE_STATES = ("pending", "pending_isolated", "held", "lost", "three_stale", "embedded_one")
enter("switch_to_celery", OPERATOR, fence(Mode.DATABASE, Mode.CELERY), DATABASE_STATES)
enter("switch_to_off", OPERATOR, fence(Mode.DATABASE, Mode.OFF), ("pending", "held"))
enter("switch_to_database", OPERATOR, fence(Mode.CELERY, Mode.DATABASE), ("celery", "celery_held"))


@operation(OPERATOR, "pending", "successor", "three_held", excuses=("cancelled",))
def cancel(stage: Stage) -> None:
    act = Act("cancel_tasks", "cancel", "explorer", values={"words": "explorer"})
    stage.store(worker=False).operate.sweep(Picked(["pending", "processing"]), act)


@operation(OPERATOR, "failed_twice")
def retry(stage: Stage) -> None:
    act = Act("revive_tasks", "retry", "explorer", values={"priority": None, "rate": None})
    stage.store(worker=False).operate.sweep(Picked(["failed"], newest=True), act)


@operation(OPERATOR, "three", "embedded_one", "held_edit")
def reindex(stage: Stage) -> None:
    stage.store(worker=False).repairs.reindex(Which(), "low")


@operation(OPERATOR, "three_stale", "embedded_one")
def want(stage: Stage) -> None:
    """What backfill and requeue do for articles without a task."""
    store = stage.store(worker=False).operate
    store.want(store.missing_without_task(None, None), None, "backfill")


@operation(OPERATOR, "embedded_one", "held", tables=True)
def model_add(stage: Stage) -> None:
    added = stage.store(worker=False).models.add(Model("hashing", "third", 16))
    stage.scene.dims[added.id] = 16


@operation(OPERATOR, "building", "building_one")
def model_build(stage: Stage) -> None:
    stage.store(worker=False).models.build(stage.scene.model)


@operation(OPERATOR, "building_one")
def model_made(stage: Stage) -> None:
    """Built and embedded, from the promise to the vectors: a transaction that began before knows nothing of it."""
    store = stage.store()
    store.models.build(stage.scene.model)
    if tasks := stage.poll(store, stage.scene.second, Priority.LOW):
        stage.settle(store, stage.scene.second, [stage.embed(task) for task in tasks])


@operation(OPERATOR, "building", "building_held")
def model_activate(stage: Stage) -> None:
    stage.store(worker=False).models.activate(stage.scene.model, who="explorer", force=True)


@operation(OPERATOR, "building_one", "building_held", tables=True)
def model_drop(stage: Stage) -> None:
    """Its DETACH PARTITION … CONCURRENTLY is one step, which may wait in the middle of itself."""
    stage.store(worker=False).models.drop(stage.scene.model, who="explorer")
