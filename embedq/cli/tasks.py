"""`embedq cancel`, `clear`, `retry`, `requeue`, `stuck`, `reset-stuck`: what an operator does to tasks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import click

from ..errors import InputError, NotFound, NotWell
from ..model import OPEN, Priority, TaskStatus
from ..settings import from_env
from ..store import Store
from ..store.operate import FINISHED, Act, Picked, Swept
from .fences import PRIORITIES, TENANTS, opened
from .voice import FAILED, Answer, Table, command, confirm, who

STATUS = click.Choice([status.value for status in TaskStatus])
PRIORITY = click.Choice([priority.value for priority in Priority])
LOOK_EVERY_S = 0.1


def swept_answer(swept: Swept, words: str, **more: object) -> Answer:
    """What a sweep did. Exit code 1 when others still hold some of the tasks."""
    data = {"tasks": swept.total, "states": dict(swept.states), "ids": swept.ids[:1000], "left": swept.left, **more}
    told = ", ".join(f"{number} {status}" for status, number in sorted(swept.states.items()))
    said = [f"{words}: {told or 'no task matched'}"]
    if swept.left:
        said.append(f"{swept.left} more are locked by other sessions: run it again")
    return Answer(data, [*said], FAILED if swept.left else 0)


def planned(store: Store, picked: Picked, words: str) -> Answer:
    """The answer to --dry-run."""
    rows = store.operate.count(picked)
    total = sum(row["tasks"] for row in rows)
    table = Table(("status", "priority", "tasks"), [(row["status"], row["priority"], row["tasks"]) for row in rows])
    said = f"would {words} {total} tasks; nothing was done (--dry-run)"
    return Answer({"would": words, "tasks": total, "by": rows}, [table, said] if rows else [said])


def ids_of(store: Store, keys: Sequence[str]) -> list[int]:
    """Ids of the tasks that these keys name. Raises NotFound naming the keys that name none."""
    rows = store.operate.named(keys)
    unknown = sorted({row["key"] for row in rows if row["id"] is None})
    if unknown:
        raise NotFound(
            f"no task or article is called {', '.join(unknown)}", hint="`embedq recent` shows tasks; nothing was done"
        )
    return [row["id"] for row in rows]


@command(name="cancel", destroys=True)
@click.argument("keys", nargs=-1, required=True, metavar="TASK|ARTICLE...")
def cancel(keys: tuple[str, ...], reason: str, yes: bool, dry_run: bool) -> Answer:
    """Cancel open tasks by their id, or by their article's id or slug. A result under way is discarded.

    `embedq requeue --status cancelled` and `embedq retry TASK` undo it.

    Example:  embedq cancel 1207 tea --reason "withdrawn"
    """
    with opened() as store:
        picked = Picked(statuses=OPEN, ids=ids_of(store, keys))
        if dry_run:
            return planned(store, picked, "cancel")
        words = f"cancelled by {who()}" + (f": {reason}" if reason else "")
        return swept_answer(
            store.operate.sweep(picked, Act("cancel_tasks", "cancel", who(), reason, {"words": words})), "cancel"
        )


@command(name="clear", destroys=True, why="--why")
@click.option("--status", "statuses", multiple=True, type=STATUS, help="Only tasks in this status; may be repeated.")
@PRIORITIES
@TENANTS
@click.option("--reason", "task_reason", help="Only tasks made for this reason: create, update, import, reconcile, …")
@click.option("--all", "everything", is_flag=True, help="Every open task, when nothing narrower is named.")
def clear(
    statuses: tuple[str, ...], priorities: tuple[str, ...], tenants: tuple[str, ...], task_reason: str | None, everything: bool,
    reason: str, yes: bool, dry_run: bool,
) -> Answer:  # fmt: skip
    """Empty the queue, or part of it; every filter that is given must match.

    \b
    Open tasks (pending, processing) are cancelled: `embedq requeue --status cancelled` undoes it.
    Finished ones (completed, failed, skipped, cancelled) are deleted, and only when their status is named.
    Articles and vectors are never touched. An article left stale by deleting is found by reconcile.

    Example:  embedq clear --status pending --priority low --why "too few resources" --yes
    """
    if not (statuses or priorities or tenants or task_reason or everything):
        raise InputError("clear what?", hint="name --status, --priority, --tenant or --reason; --all is every open task")
    picked = Picked(statuses or OPEN, None, priorities or None, tenants or None, task_reason)
    with opened() as store:
        if dry_run:
            return planned(store, picked, "clear")
        number = sum(row["tasks"] for row in store.operate.count(picked))
        confirm(f"Clear {number} tasks?", yes=yes)
        return swept_answer(clear_tasks(store, picked, reason), "clear")


def clear_tasks(store: Store, picked: Picked, why: str) -> Swept:
    """Delete the finished ones first: what this cancels itself is to stay."""
    swept = Swept()
    for statuses, statement in ((FINISHED, "delete_tasks"), (OPEN, "cancel_tasks")):
        part = replace(picked, statuses=[status for status in picked.statuses if status in statuses])
        if part.statuses:
            act = Act(statement, "clear", who(), why, {"words": f"cleared by {who()}" + (f": {why}" if why else "")})
            done = store.operate.sweep(part, act)
            swept = Swept(swept.states + done.states, swept.ids + done.ids, swept.left + done.left)
    return swept


def retrying(picked: Picked, reason: str, *, category: str = "retry", rate: float | None = None, canary: bool = False,
             wait_s: float = 60.0, limit: int | None = None, priority: str | None = None, dry_run: bool = False) -> Answer:  # fmt: skip
    """Make finished tasks pending again, with a fresh allowance; `attempts` and the errors stay."""
    act = Act("revive_tasks", category, who(), reason, {"rate": rate, "priority": priority})
    with opened() as store:
        if dry_run:
            return planned(store, picked, category)
        first = try_one(store, picked, act, wait_s) if canary else Swept()
        rest = store.operate.sweep(picked, act, limit=None if limit is None else limit - first.total)
    swept = Swept(first.states + rest.states, first.ids + rest.ids, rest.left)
    return swept_answer(swept, category, canary=first.ids[0] if first.ids else None)


def try_one(store: Store, picked: Picked, act: Act, wait_s: float) -> Swept:
    """One task first. Raises NotWell, and leaves the others alone, unless it is embedded within `wait_s` seconds."""
    first = store.operate.sweep(picked, act, limit=1)
    if not first.ids:
        return first
    task, deadline = first.ids[0], time.monotonic() + wait_s
    before = store.operate.state_of(task) or {"attempts": 0}
    while (state := store.operate.state_of(task)) is not None and state["status"] in OPEN and time.monotonic() < deadline:
        if state["attempts"] > before["attempts"]:
            break
        time.sleep(LOOK_EVERY_S)
    if state is None or state["status"] != TaskStatus.COMPLETED:
        found = "is gone" if state is None else f"is {state['status']}: {state['error_message'] or 'nobody has finished it'}"
        raise NotWell(
            f"the canary, task {task}, {found}; the others were left alone", hint=f"`embedq explain {task}` shows why"
        )
    return first


@command(name="retry", destroys=True)
@click.argument("keys", nargs=-1, metavar="[TASK|ARTICLE]...")
@click.option("--error", "error_class", metavar="CLASS", help="Every failed task whose last error is of this class.")
@click.option(
    "--message-like", metavar="TEXT", help="Every failed task whose last error has this in it (% stands for anything)."
)
@click.option("--all", "everything", is_flag=True, help="Every failed task.")
@click.option(
    "--rate", type=click.FloatRange(0.001, 100_000), metavar="N", help="At most N a second: each is due a little later."
)
@click.option("--canary", is_flag=True, help="One first; the rest when it was embedded.")
@click.option("--canary-timeout", default=60.0, show_default=True, help="Seconds to wait for the canary.")
def retry(
    keys: tuple[str, ...], error_class: str | None, message_like: str | None, everything: bool, rate: float | None, canary: bool,
    canary_timeout: float, reason: str, yes: bool, dry_run: bool,
) -> Answer:  # fmt: skip
    """Try tasks again that failed: those named (also skipped and cancelled ones), or all with one kind of error.

    They get a fresh allowance of retries; their attempts and errors stay on record. A waiting task that is named is due at once.

    Example:  embedq retry --error ProviderBusy --canary --rate 50
    """
    if not (keys or error_class or message_like or everything):
        raise InputError(
            "retry what?", hint="name tasks, or --error CLASS, --message-like TEXT or --all; `embedq failed` lists"
        )
    picked = Picked(("failed",), error_class=error_class, message_like=like(message_like), newest=True)
    if keys:
        with opened() as store:
            picked = replace(picked, statuses=("failed", "skipped", "cancelled", "pending"), ids=ids_of(store, keys))
    return retrying(picked, reason, rate=rate, canary=canary, wait_s=canary_timeout, dry_run=dry_run)


def like(text: str | None) -> str | None:
    return f"%{text}%" if text else None


@command(name="requeue", destroys=True)
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice(FINISHED), help="Default: failed, skipped and cancelled."
)
@TENANTS
@click.option(
    "--only-missing", is_flag=True, help="Only articles whose newest text has no vector; also those without any task."
)
@click.option("--limit", type=click.IntRange(1), help="No more than so many.")
@click.option("--priority", type=PRIORITY, help="Their new priority; without it, they keep theirs.")
def requeue(
    statuses: tuple[str, ...], tenants: tuple[str, ...], only_missing: bool, limit: int | None, priority: str | None,
    reason: str, yes: bool, dry_run: bool,
) -> Answer:  # fmt: skip
    """Queue finished tasks again, the latest of each article.

    Example:  embedq requeue --only-missing --tenant acme --limit 500
    """
    usual = FINISHED if only_missing else ("failed", "skipped", "cancelled")
    picked = Picked(statuses or usual, tenants=tenants or None, newest=True, only_missing=only_missing)
    answer = retrying(picked, reason, category="requeue", limit=limit, priority=priority, dry_run=dry_run)
    if not only_missing or statuses:
        return answer
    return _with_taskless(answer, tenants, limit, priority, reason, dry_run)


def _with_taskless(
    answer: Answer, tenants: Sequence[str], limit: int | None, priority: str | None, reason: str, dry_run: bool
) -> Answer:
    """Articles that no task ever promised, or whose tasks were deleted, belong to what is missing."""
    with opened() as store:
        room = None if limit is None else max(0, limit - answer.data["tasks"])
        ids = store.operate.missing_without_task(tenants, room)
        made = 0 if dry_run else store.operate.want(ids, priority, "requeue")
        if made:
            said = f"requeue: {made} articles without a task got one"
            store.audit.write("requeue", said, who=who(), reason=reason, counts={"made": made})
    answer.data |= {"without_task": len(ids), "made": made}
    answer.said.append(f"{len(ids)} articles had no task at all; {made} tasks made")
    return answer


def stuck_picked(older_than_s: float | None) -> Picked:
    held_s = from_env(os.environ).worker_timeout_s if older_than_s is None else older_than_s
    return Picked(("processing",), held_s=held_s)


OLDER = click.option(
    "--older-than",
    type=click.FloatRange(0),
    metavar="S",
    help="Held for longer than S seconds; default EMBEDDING_WORKER_TIMEOUT.",
)


@command(name="stuck")
@OLDER
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def stuck(older_than: float | None, limit: int) -> Answer:
    """List tasks that are processing although their worker is dead, or has held them too long.

    Example:  embedq stuck --older-than 60
    """
    with opened() as store:
        rows = store.operate.listed(stuck_picked(older_than), limit)
    if not rows:
        return Answer([], ["nothing is stuck"])
    cells = [(r["id"], r["article_id"], r["priority"], r["worker"], r["worker_alive"], r["held_s"]) for r in rows]
    return Answer(
        rows, [Table(("task", "article", "priority", "held by", "alive", "for s"), cells), "next: embedq reset-stuck"]
    )


@command(name="reset-stuck", destroys=True)
@OLDER
def reset_stuck(older_than: float | None, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Hand stuck tasks back to the queue, uncharged. A worker that wakes up and brings their results is turned away.

    Example:  embedq reset-stuck --reason "the node was lost"
    """
    picked = stuck_picked(older_than)
    with opened() as store:
        if dry_run:
            return planned(store, picked, "hand back")
        act = Act("hand_back", "reset-stuck", who(), reason, {"words": "handed back by reset-stuck"})
        swept = store.operate.sweep(picked, act)
        store.operate.wake()
    return swept_answer(swept, "handed back")
