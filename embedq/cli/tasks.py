"""`embedq cancel`, `clear`, `retry`, `requeue`: operators' changes to tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import click

from ..errors import InputError, NotFound
from ..model import OPEN, Priority, TaskStatus
from ..operations import task_actions
from ..operations.requeue import OF_ARTICLES, of_articles
from ..settings import from_env
from ..store import Store
from ..store.bulk import FINISHED, RETRIABLE, Picked, Swept, told_states
from .fences import PRIORITIES, TENANTS, opened
from .narrowing import narrowed, narrows, picked_by
from .voice import FAILED, Answer, Table, command, confirm, who

STATUS = click.Choice([status.value for status in TaskStatus])
PRIORITY = click.Choice([priority.value for priority in Priority])


def swept_answer(swept: Swept, words: str, **more: object) -> Answer:
    """The result of a sweep. Exit code 1 when other sessions have locked some of the tasks."""
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
        return swept_answer(task_actions.cancel(store, picked, who(), reason), "cancel")


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
        return swept_answer(task_actions.clear(store, picked, who(), reason), "clear")


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
    act = task_actions.reviving(category, who(), reason, rate=rate, priority=priority)
    with opened() as store:
        if dry_run:
            return planned(store, picked, category)
        first, rest = task_actions.revive(store, picked, act, limit=limit, canary_s=wait_s if canary else None)
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
    """Queue finished tasks again, the latest of each article; or restart those that are queued, processing, or ready and stale.

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
    """Also make tasks for articles that never had one, or whose tasks were deleted."""
    with opened() as store:
        room = None if limit is None else max(0, limit - answer.data["tasks"])
        found, made = task_actions.make_missing(store, tenants, room, priority, who(), reason, dry_run=dry_run)
    answer.data |= {"without_task": found, "made": made}
    answer.said.append(f"{found} articles had no task at all; {made} tasks made")
    return answer
