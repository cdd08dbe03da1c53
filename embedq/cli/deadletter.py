"""`embedq failed` and `embedq dead-letter …`: failed tasks: list them with every attempt's error, retry or discard them."""

from __future__ import annotations

from typing import Any

import click

from ..decide.explaining import attempts_told
from ..errors import InputError, NotFound
from ..store import Store
from ..store.bulk import Act, Picked
from ..store.database import Row
from .fences import opened
from .narrowing import narrowed, narrows, picked_by
from .tasks import ids_of, planned, retry, swept_answer
from .voice import Answer, Table, command, confirm, of_all, who

CLASS = click.option("--error", "error_class", metavar="CLASS", help="Only errors of this class.")
TENANT = click.option("--tenant", help="Only this tenant's.")
LIMIT = click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
GROUP_COLUMNS = ("error", "message", "tasks", "tenants", "first", "last", "for example")
TASK_COLUMNS = ("task", "article", "tenant", "attempts", "error", "message", "failed at")


def group_cells(row: Row) -> tuple[object, ...]:
    message = row["one_message"] if row["tasks"] == 1 else row["message"]
    return (
        row["error_class"],
        message,
        row["tasks"],
        row["tenants"],
        row["first"],
        row["last"],
        " ".join(map(str, row["examples"])),
    )


def grouped(store: Store, error_class: str | None, tenant: str | None, limit: int, *, by_message: bool = True) -> Answer:
    rows = store.overview.failed_groups(by_message=by_message, error_class=error_class, tenant=tenant, limit=limit)
    if not rows:
        return Answer([], ["nothing has failed"])
    advice = "next: embedq dead-letter show TASK; embedq retry --error CLASS --canary"
    return Answer(rows, [Table(GROUP_COLUMNS, [group_cells(row) for row in rows], "Failed tasks"), advice])


@command(name="failed")
@click.option("--details", "--by-error", "details", is_flag=True, help="Grouped by error and message, with examples.")
@CLASS
@TENANT
@LIMIT
def failed(details: bool, error_class: str | None, tenant: str | None, limit: int) -> Answer:
    """List failed tasks, the last one first; with --by-error (or --details) grouped by error.

    Example:  embedq failed --details
    """
    with opened() as store:
        if details:
            return grouped(store, error_class, tenant, limit)
        rows = store.overview.failed_tasks(error_class=error_class, tenant=tenant, limit=limit)
        total = len(rows) if len(rows) < limit else store.overview.failed(error_class=error_class, tenant=tenant)
    shown = ("id", "article_id", "tenant_id", "attempts", "error_class", "error_message", "completed_at")
    cells = [[row[key] for key in shown] for row in rows]
    return Answer(rows, [Table(TASK_COLUMNS, cells), *of_all(len(rows), total)] if rows else ["nothing has failed"])


@click.group(name="dead-letter")
def dead_letter() -> None:
    """List, show, retry and discard failed tasks."""


def register(made: click.Command) -> click.Command:
    dead_letter.add_command(made)
    return made


@register
@command(name="list")
@CLASS
@TENANT
@LIMIT
def list_(error_class: str | None, tenant: str | None, limit: int) -> Answer:
    """Failed tasks, grouped by error class and message (numbers in it aside).

    Example:  embedq dead-letter list --tenant acme
    """
    with opened() as store:
        return grouped(store, error_class, tenant, limit)


@register
@command(name="show")
@click.argument("task", type=int)
def show(task: int) -> Answer:
    """One task with every attempt's error (the last twenty).

    Example:  embedq dead-letter show 1207
    """
    with opened() as store:
        row = store.overview.task(task)
    if row is None:
        raise NotFound(f"there is no task {task}", hint="`embedq failed` lists failed tasks")
    shown = (
        "id",
        "article_id",
        "tenant_id",
        "status",
        "priority",
        "attempts",
        "error_class",
        "error_message",
        "created_at",
        "completed_at",
    )
    said: list[str | Table] = [Table(("", ""), [(key, row[key]) for key in shown])]
    said.append(Table(("at", "attempt", "error", "message", "worker", "delivery"), attempts_told(row["errors"]), "Attempts"))
    return Answer({key: row[key] for key in (*shown, "errors", "metadata")}, said)


# One command under two names.
dead_letter.add_command(retry)


@register
@command(name="discard", destroys=True)
@click.argument("keys", nargs=-1, metavar="[TASK|ARTICLE]...")
@narrowed
@click.option("--all", "everything", is_flag=True, help="Every failed task.")
def discard(keys: tuple[str, ...], narrow: dict[str, Any], everything: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Discard failed tasks: they become cancelled. Their errors stay, and `embedq requeue --status cancelled` undoes it.

    Example:  embedq dead-letter discard --error InputRefused --reason "test texts" --yes
    """
    if not (keys or narrows(narrow) or everything):
        raise InputError("discard what?", hint="name tasks, or --error CLASS, --message-like TEXT or --all")
    with opened() as store:
        ids = ids_of(store, keys) if keys else None
        picked = picked_by(store, Picked(("failed",), ids=ids), narrow)
        if dry_run:
            return planned(store, picked, "discard")
        confirm(f"Discard {sum(row['tasks'] for row in store.operate.count(picked))} failed tasks?", yes=yes)
        return swept_answer(store.operate.sweep(picked, Act("discard_tasks", "discard", who(), reason)), "discard")
