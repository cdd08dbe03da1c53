"""What applications write, and what people change by hand: plain SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedq.model import Mode

from .operation import APPLICATION, HAND, enter, operation
from .stage import Stage
from .states import BACK, EDIT, STATES

ANY = tuple(name for name in STATES if name != "pending_isolated")
THREES = ("three", "three_held", "three_lost", "three_stale", "building")

# An application's writers, in plain SQL --------------------------------------------------------------------------------------------


def writer(name: str, *statements: str, where: Sequence[str] = ANY, undo: bool = False) -> None:
    enter(name, APPLICATION, lambda stage: stage.write(*statements, undo=undo), where)


DELETE, MOVE = "DELETE FROM articles WHERE id = 'a'", "UPDATE articles SET tenant_id = 'zeta' WHERE id = 'a'"
writer("insert", "INSERT INTO articles (id, content) VALUES ('n', 'one')")
writer("insert_gone", "INSERT INTO articles (id, content) VALUES ('gone', 'nine')", where=("old",))
writer(
    "insert_three",
    "INSERT INTO articles (id, content) VALUES ('q', 'one'), ('b', 'one'), ('n', 'one')",
    where=(*THREES, "embedded_one"),
)
writer("edit", EDIT.replace("two", "three"))
writer("edit_back", BACK, where=("held_edit", "both_held", "failed_twice", "successor"))
writer(
    "edit_there_and_back",
    EDIT.replace("two", "five"),
    EDIT.replace("'two'", "'one'"),
    where=("embedded_one", "held", "returned", "pending"),
)
writer("edit_undone", EDIT.replace("two", "four"), undo=True, where=("pending", "held", "held_edit", "lost"))
writer("edit_three", *(f"UPDATE articles SET content = 'six' WHERE id = '{id}'" for id in "zam"), where=THREES)
writer("edit_all", "UPDATE articles SET content = content || '.'", where=THREES)
writer("move", MOVE)
writer(
    "move_and_edit", MOVE, EDIT.replace("two", "seven"), where=("held", "held_edit", "pending", "embedded_one", "building_held")
)
writer("delete", DELETE)
writer("delete_three", *(f"DELETE FROM articles WHERE id = '{id}'" for id in "zam"), where=THREES)
writer("born_again", DELETE, "INSERT INTO articles (id, content) VALUES ('a', 'eight')")
writer(
    "born_the_same",
    DELETE,
    "INSERT INTO articles (id, tenant_id, content) VALUES ('a', 'zeta', 'one')",
    where=("embedded_one", "held", "old"),
)

# By hand ---------------------------------------------------------------------------------------------------------------------------


def by_hand(name: str, statement: str, where: Sequence[str], **more: Any) -> None:
    enter(name, HAND, lambda stage: stage.slot.application.execute(statement), where, **more)


OPEN_STATES = ("pending", "held", "successor", "both_held", "lost", "failed_twice")
by_hand(
    "hand_pending",
    "UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status IN ('processing', 'failed')",
    OPEN_STATES[1:],
)
by_hand(
    "hand_pending_freed",
    "UPDATE embedding_tasks SET status = 'pending', lease_holder = NULL WHERE status = 'processing'",
    ("held", "successor", "both_held"),
)
for which, order in (("older", "min"), ("newer", "max")):
    by_hand(
        f"hand_pending_{which}",
        "UPDATE embedding_tasks SET status = 'pending' WHERE status IN ('processing', 'failed')"
        f" AND id = (SELECT {order}(id) FROM embedding_tasks)",
        ("both_held", "failed_twice"),
    )
by_hand(
    "hand_failed",
    "UPDATE embedding_tasks SET status = 'failed' WHERE status = 'pending'",
    ("pending", "successor"),
    excuses=("failed",),
)
by_hand("hand_deletes_tasks", "DELETE FROM embedding_tasks", OPEN_STATES)
by_hand("hand_stops", "UPDATE embedding_worker_status SET is_running = false", ("pending", "celery", "held"))


@operation(HAND, "pending", "pending_isolated", "three_stale")
def hand_sets_mode(stage: Stage) -> None:
    stage.slot.application.execute("UPDATE embedding_worker_status SET mode = 'celery'")
    stage.fenced(Mode.DATABASE, Mode.CELERY)
