"""What an operation is, and the register of all: `operations` fills it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .stage import Stage

APPLICATION, WORKER, STEWARD, OPERATOR, HAND = "application", "worker", "steward", "operator", "hand"
# How long an operation waits for an open transaction at most, all in all: a worker has others' tasks to settle, an operator looks on.
BOUNDS_S = {WORKER: 6.0, STEWARD: 6.0, OPERATOR: 30.0, APPLICATION: 0.0, HAND: 0.0}
# They take work out of a worker's hands, ask for a text anew, or bring one back that was replaced.
BUY_AGAIN = {
    "rescue",
    "hand_over",
    "hand_pending",
    "hand_pending_freed",
    "hand_pending_older",
    "hand_pending_newer",
    "hand_deletes_tasks",
    "cancel",
    "retry",
    "reindex",
    "edit_back",
    "edit_there_and_back",
    "edit_undone",
    "move",
    "move_and_edit",
    "born_the_same",
    "switch_to_celery",
    "switch_to_off",
    "switch_to_database",
    "model_drop",
    "model_activate",
    "model_made",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """`where`: the start states in which it has something to do. `tables`: it makes or drops a model's table. `excuses`: what may be
    left of an article after it, for an operator to see."""

    name: str
    kind: str
    act: Callable[[Stage], Any]
    where: tuple[str, ...]
    tables: bool = False
    excuses: tuple[str, ...] = ()

    @property
    def buys_again(self) -> bool:
        """Whether a text may rightly be bought once more because of it."""
        return self.name in BUY_AGAIN

    @property
    def bound_s(self) -> float:
        return BOUNDS_S[self.kind]


OPERATIONS: dict[str, Operation] = {}


def enter(name: str, kind: str, act: Callable[[Stage], Any], where: Sequence[str], **more: Any) -> None:
    OPERATIONS[name] = Operation(name, kind, act, tuple(where), **more)


def operation(kind: str, *where: str, **more: Any) -> Callable[[Callable[[Stage], Any]], Callable[[Stage], Any]]:
    def take(act: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
        enter(act.__name__, kind, act, where, **more)
        return act

    return take
