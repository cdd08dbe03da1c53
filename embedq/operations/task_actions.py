"""Operator actions on tasks: cancel, clear, retry, requeue. Called by the commands, the HTTP service and the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..model import OPEN
from ..store import Store
from ..store.bulk import FINISHED, Act, Picked, Swept
from .canary import try_one

# The console's action names, and the statement of each.
STATEMENTS = {"retry": "revive_tasks", "cancel": "cancel_tasks", "discard": "discard_tasks"}


def reviving(category: str, who: str, reason: str, *, rate: float | None = None, priority: str | None = None) -> Act:
    """Make finished tasks pending with a new allowance of attempts; at most `rate` per second become due."""
    return Act("revive_tasks", category, who, reason, {"rate": rate, "priority": priority})


def act_of(action: str, who: str, reason: str) -> Act:
    """The action of STATEMENTS with this name, with its default values."""
    return Act(
        STATEMENTS[action], action, who, reason, {"rate": None, "priority": None, "words": f"cancelled by {who}: {reason}"}
    )


def cancel(store: Store, picked: Picked, who: str, reason: str) -> Swept:
    """Cancel the picked open tasks."""
    words = f"cancelled by {who}" + (f": {reason}" if reason else "")
    return store.operate.sweep(picked, Act("cancel_tasks", "cancel", who, reason, {"words": words}))


def clear(store: Store, picked: Picked, who: str, reason: str) -> Swept:
    """Delete finished tasks, then cancel open ones, in this order so that tasks cancelled here are not deleted."""
    swept = Swept()
    for statuses, statement in ((FINISHED, "delete_tasks"), (OPEN, "cancel_tasks")):
        part = replace(picked, statuses=[status for status in picked.statuses if status in statuses])
        if part.statuses:
            act = Act(statement, "clear", who, reason, {"words": f"cleared by {who}" + (f": {reason}" if reason else "")})
            done = store.operate.sweep(part, act)
            swept = Swept(swept.states + done.states, swept.ids + done.ids, swept.left + done.left)
    return swept


def revive(
    store: Store, picked: Picked, act: Act, *, limit: int | None = None, canary_s: float | None = None
) -> tuple[Swept, Swept]:
    """Make tasks pending; returns the sweeps of the canary task and of the rest. `canary_s`: retry one task first, and raise NotWell with
    the others unchanged unless it is embedded within so many seconds. Without it the first sweep is empty."""
    store.workers.wake()
    first = Swept() if canary_s is None else try_one(store, picked, act, canary_s)
    rest = store.operate.sweep(picked, act, limit=None if limit is None else limit - first.total)
    store.workers.wake()
    return first, rest


def make_missing(
    store: Store,
    tenants: Sequence[str],
    limit: int | None,
    priority: str | None,
    who: str,
    reason: str,
    *,
    dry_run: bool = False,
) -> tuple[int, int]:
    """Make tasks for articles that have no current vector and no task; returns their number and the number of tasks made."""
    ids = store.operate.missing_without_task(tenants, limit)
    made = 0 if dry_run else store.operate.want(ids, priority, "requeue")
    if made:
        said = f"requeue: {made} articles without a task got one"
        store.audit.write("requeue", said, who=who, reason=reason, counts={"made": made})
    return len(ids), made
