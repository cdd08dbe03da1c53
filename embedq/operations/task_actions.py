"""What an operator does to tasks, written once: cancel, clear, retry, requeue. The commands, the HTTP service and the console call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..model import OPEN
from ..store import Store
from ..store.bulk import FINISHED, Act, Picked, Swept
from .canary import try_one

# What the console names its actions by; the statement of each.
STATEMENTS = {"retry": "revive_tasks", "cancel": "cancel_tasks", "discard": "discard_tasks"}


def reviving(category: str, who: str, reason: str, *, rate: float | None = None, priority: str | None = None) -> Act:
    """Finished tasks become pending, with a fresh allowance of attempts; at most `rate` a second are due."""
    return Act("revive_tasks", category, who, reason, {"rate": rate, "priority": priority})


def act_of(action: str, who: str, reason: str) -> Act:
    """One of STATEMENTS, with its usual values."""
    return Act(
        STATEMENTS[action], action, who, reason, {"rate": None, "priority": None, "words": f"cancelled by {who}: {reason}"}
    )


def cancel(store: Store, picked: Picked, who: str, reason: str) -> Swept:
    words = f"cancelled by {who}" + (f": {reason}" if reason else "")
    return store.operate.sweep(picked, Act("cancel_tasks", "cancel", who, reason, {"words": words}))


def clear(store: Store, picked: Picked, who: str, reason: str) -> Swept:
    """Cancel what is open and delete what is finished; the finished first, so that what this cancels itself stays."""
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
    """The canary's sweep and that of the rest. `canary_s`: one task first; NotWell, and the others are left alone, unless it is embedded
    within so many seconds. Without it the first sweep is empty."""
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
    """Tasks for articles without a current vector and without any task: how many there are, and how many tasks were made."""
    ids = store.operate.missing_without_task(tenants, limit)
    made = 0 if dry_run else store.operate.want(ids, priority, "requeue")
    if made:
        said = f"requeue: {made} articles without a task got one"
        store.audit.write("requeue", said, who=who, reason=reason, counts={"made": made})
    return len(ids), made
