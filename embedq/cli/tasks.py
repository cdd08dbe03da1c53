"""`embedq cancel`, `clear`, `retry`, `requeue`, `stuck`, `reset-stuck`: what an operator does to tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import click

from ..errors import InputError, NotFound
from ..model import OPEN, Priority, TaskStatus
from ..operations.canary import try_one
from ..operations.requeue import OF_ARTICLES, of_articles
from ..settings import from_env
from ..steward.hand_over import hand_over
from ..store import Store
from ..store.bulk import FINISHED, RETRIABLE, Act, Picked, Swept, told_states
from .fences import PRIORITIES, TENANTS, opened
from .narrowing import narrowed, narrows, picked_by
from .voice import FAILED, Answer, Table, command, confirm, of_all, who

STATUS = click.Choice([status.value for status in TaskStatus])
PRIORITY = click.Choice([priority.value for priority in Priority])


def swept_answer(swept: Swept, words: str, **more: object) -> Answer:
    """What a sweep did. Exit code 1 when others still hold some of the tasks."""
    data = {"tasks": swept.total, "states": dict(swept.states), "ids": swept.ids[:1000], "left": swept.left, **more}
    said = [f"{words}: {told_states(swept.states) or 'no task matched'}"]
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
@click.argument("keys", nargs=-1, metavar="[TASK|ARTICLE]...")
@narrowed
@click.option("--status", type=click.Choice([status.value for status in OPEN]), help="Only open tasks in this status.")
@click.option("--all", "everything", is_flag=True, help="Every open task.")
def cancel(
    keys: tuple[str, ...], narrow: dict[str, Any], status: str | None, everything: bool, reason: str, yes: bool, dry_run: bool
) -> Answer:
    """Cancel open tasks by their id, by their article's id or slug, or all that match. A result under way is discarded.

    `embedq requeue --status cancelled` and `embedq retry TASK` undo it.

    Example:  embedq cancel 1207 tea --reason "withdrawn"
    """
    if not (keys or narrows(narrow) or status or everything):
        raise InputError("cancel what?", hint="name tasks or articles, or a filter; --all is every open task")
    with opened() as store:
        picked = Picked(statuses=(status,) if status else OPEN, ids=ids_of(store, keys) if keys else None)
        picked = picked_by(store, picked, narrow)
        if dry_run:
            return planned(store, picked, "cancel")
        if not keys:
            confirm(f"Cancel {sum(row['tasks'] for row in store.operate.count(picked))} tasks?", yes=yes)
        words = f"cancelled by {who()}" + (f": {reason}" if reason else "")
        act = Act("cancel_tasks", "cancel", who(), reason, {"words": words})
        return swept_answer(store.operate.sweep(picked, act), "cancel")


@command(name="clear", destroys=True, why=("--reason", "--why"))
@click.option("--status", "statuses", multiple=True, type=STATUS, help="Only tasks in this status; may be repeated.")
@PRIORITIES
@TENANTS
@click.option("--made-for", help="Only tasks made for this reason: create, update, import, reconcile, …")
@click.option("--all", "everything", is_flag=True, help="Every open task, when nothing narrower is named.")
def clear(
    statuses: tuple[str, ...],
    priorities: tuple[str, ...],
    tenants: tuple[str, ...],
    made_for: str | None,
    everything: bool,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Empty the queue, or part of it; every filter that is given must match.

    \b
    Open tasks (pending, processing) are cancelled: `embedq requeue --status cancelled` undoes it.
    Finished ones (completed, failed, skipped, cancelled) are deleted, and only when their status is named.
    Articles and vectors are never touched. An article left stale by deleting is found by reconcile.

    Example:  embedq clear --status pending --priority low --reason "too few resources" --yes
    """
    if not (statuses or priorities or tenants or made_for or everything):
        raise InputError("clear what?", hint="name --status, --priority, --tenant or --made-for; --all is every open task")
    picked = Picked(statuses or OPEN, None, priorities or None, tenants or None, made_for)
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


def retrying(
    picked: Picked,
    reason: str,
    *,
    category: str = "retry",
    rate: float | None = None,
    canary: bool = False,
    wait_s: float = 60.0,
    limit: int | None = None,
    priority: str | None = None,
    dry_run: bool = False,
) -> Answer:
    """Make finished tasks pending again, with a fresh allowance; `attempts` and the errors stay."""
    act = Act("revive_tasks", category, who(), reason, {"rate": rate, "priority": priority})
    with opened() as store:
        if dry_run:
            return planned(store, picked, category)
        first = try_one(store, picked, act, wait_s) if canary else Swept()
        rest = store.operate.sweep(picked, act, limit=None if limit is None else limit - first.total)
    swept = Swept(first.states + rest.states, first.ids + rest.ids, rest.left)
    return swept_answer(swept, category, canary=first.ids[0] if first.ids else None)


@command(name="retry", destroys=True)
@click.argument("keys", nargs=-1, metavar="[TASK|ARTICLE]...")
@narrowed
@click.option("--status", type=click.Choice(RETRIABLE), help="Only finished tasks in this status; default: failed.")
@click.option("--all", "everything", is_flag=True, help="Every failed task.")
@click.option(
    "--rate", type=click.FloatRange(0.001, 100_000), metavar="N", help="At most N a second: each is due a little later."
)
@click.option("--canary", is_flag=True, help="One first; the rest when it was embedded.")
@click.option("--canary-timeout", default=60.0, show_default=True, help="Seconds to wait for the canary.")
def retry(
    keys: tuple[str, ...],
    narrow: dict[str, Any],
    status: str | None,
    everything: bool,
    rate: float | None,
    canary: bool,
    canary_timeout: float,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Try tasks again that failed: those named (also skipped and cancelled ones), or all that match.

    They get a fresh allowance of retries; their attempts and errors stay on record. A waiting task that is named is due at once.

    Example:  embedq retry --error ProviderBusy --canary --rate 50
    """
    if not (keys or narrows(narrow) or status or everything):
        raise InputError(
            "retry what?", hint="name tasks, or --error CLASS, --message-like TEXT or --all; `embedq failed` lists"
        )
    with opened() as store:
        picked = picked_by(store, Picked((status or "failed",), newest=True), narrow)
        if keys:
            picked = replace(picked, statuses=(*RETRIABLE, "pending") if status is None else (status,), ids=ids_of(store, keys))
    return retrying(picked, reason, rate=rate, canary=canary, wait_s=canary_timeout, dry_run=dry_run)


@command(name="requeue", destroys=True)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*FINISHED, *OF_ARTICLES]),
    help="Default: failed, skipped and cancelled. queued: what the broker has is sent anew; processing: what dead workers hold;"
    " ready: what is stale.",
)
@TENANTS
@click.option(
    "--only-missing", is_flag=True, help="Only articles whose newest text has no vector; also those without any task."
)
@click.option("--limit", type=click.IntRange(1), help="No more than so many.")
@click.option("--priority", type=PRIORITY, help="Their new priority; without it, they keep theirs.")
def requeue(
    statuses: tuple[str, ...],
    tenants: tuple[str, ...],
    only_missing: bool,
    limit: int | None,
    priority: str | None,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Queue finished tasks again, the latest of each article; or get under way what is queued, processing, or ready and stale.

    Example:  embedq requeue --only-missing --tenant acme --limit 500
    """
    if set(statuses) & set(OF_ARTICLES):
        return _of_articles(statuses, tenants, limit, reason, dry_run)
    usual = FINISHED if only_missing else RETRIABLE
    picked = Picked(statuses or usual, tenants=tenants or None, newest=True, only_missing=only_missing)
    answer = retrying(picked, reason, category="requeue", limit=limit, priority=priority, dry_run=dry_run)
    if not only_missing or statuses:
        return answer
    return _with_taskless(answer, tenants, limit, priority, reason, dry_run)


def _of_articles(statuses: Sequence[str], tenants: Sequence[str], limit: int | None, reason: str, dry_run: bool) -> Answer:
    if len(statuses) > 1:
        raise InputError("queued, processing and ready stand alone", hint="give one --status at a time", field="status")
    with opened() as store:
        if dry_run:
            missing = len(store.operate.missing_without_task(tenants, limit))
            return Answer({"would_make": missing}, [f"would make {missing} tasks besides; nothing was done (--dry-run)"])
        held_s = from_env(os.environ).worker_timeout_s
        done = of_articles(store, statuses[0], tenants or None, limit, who=who(), reason=reason, held_s=held_s)
    said = f"{done.freed} tasks go to the broker anew, {done.revived} are pending again, {done.made} were made"
    total = done.freed + done.revived + done.made
    return Answer(asdict(done) | {"tasks": total}, [said], FAILED if done.left else 0)


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
        total = sum(row["tasks"] for row in store.operate.count(stuck_picked(older_than)))
    if not rows:
        return Answer([], ["nothing is stuck"])
    cells = [(r["id"], r["article_id"], r["priority"], r["worker"], r["worker_alive"], r["held_s"]) for r in rows]
    return Answer(
        rows,
        [
            Table(("task", "article", "priority", "held by", "alive", "for s"), cells),
            *of_all(len(rows), total),
            "next: embedq reset-stuck",
        ],
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
        done = hand_over(store, picked, act)
        store.workers.wake()
    answer = swept_answer(done.swept, "handed back")
    answer.said += done.warnings()
    return answer
