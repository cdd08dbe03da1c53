"""`embedq backfill`: existing articles that have no vector of the active model."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import click

from ..model import Priority
from ..operations import backfill as backfilling
from ..operations.backfill import Done, Estimate, Wanted
from ..settings import from_env
from .fences import opened
from .tasks import PRIORITY
from .voice import FAILED, Answer, Table, command, confirm, lasting, speak, who

SHOWN = ("backfill", "state", "queued", "priority", "tenant", "model", "who", "reason")


@click.group(invoke_without_command=True)
@click.option("--dry-run", is_flag=True, help="Say how many, their cost and duration; do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="", help="Why; kept in the audit log.")
@click.option("--priority", type=PRIORITY, default="low", show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Articles per transaction."
)
@click.option("--tenant", help="Only this tenant's articles.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
def backfill(as_json: bool, **given: Any) -> None:
    """Give every article without a vector of the active model, and without an open task, a task.

    Each batch commits with its progress. If it is interrupted, run it again: it continues with the same id and options. `backfill
    rollback` cancels exactly what it queued; `backfill status` follows it.

    Example:  embedq backfill --dry-run; embedq backfill --priority low --yes --reason "the old articles"
    """
    if click.get_current_context().invoked_subcommand is None:
        speak(lambda: _backfill(**given), as_json=as_json)


def _backfill(dry_run: bool, yes: bool, reason: str, priority: str, batch_size: int, tenant: str | None) -> Answer:
    with opened() as store:
        expected = backfilling.estimate(store, from_env(os.environ).prices, tenant)
        if dry_run:
            return Answer(_data(expected), [_table(expected), "nothing was done (--dry-run)"])
        question = f"Queue {expected.articles:,} articles, about {expected.tokens:,} tokens?"
        if expected.articles:
            confirm(question, yes=yes)
        done = _run_with_a_bar(store, expected, Wanted(Priority(priority), batch_size, tenant), reason)
    return _did(done)


def _run_with_a_bar(store: Any, expected: Estimate, wanted: Wanted, reason: str) -> Done:
    from .trying import bar

    with bar("queueing", expected.articles) as show:
        return backfilling.run(store, wanted, who(), reason, show)


def _data(expected: Estimate) -> dict[str, Any]:
    return asdict(expected) | {"model": str(expected.model)}


def _table(expected: Estimate) -> Table:
    price = "unknown: set EMBEDDING_PRICES" if expected.cost is None else f"{expected.cost:,.2f}"
    time = "unknown: nothing was embedded in the last ten minutes" if expected.seconds is None else lasting(expected.seconds)
    rows = [("articles", expected.articles), ("of tenants", expected.tenants), ("tokens, about", expected.tokens)]
    return Table(("", str(expected.model)), [*rows, ("cost", price), ("time, at the present rate", time)])


def _did(done: Done) -> Answer:
    state = done.state
    said: list[str | Table] = (
        [f"backfill {state['backfill']} was interrupted, and continues with its options"] if done.resumed else []
    )
    said.append(f"backfill {state['backfill']}: {state['queued']:,} tasks queued at priority {state['priority']}")
    said.append(f"next: `embedq backfill status`; `embedq backfill rollback {state['backfill']}` takes it back")
    return Answer({key: state[key] for key in SHOWN} | {"resumed": done.resumed}, said)


@command(name="status")
@click.argument("backfill_id", required=False, metavar="[ID]")
def status(backfill_id: str | None) -> Answer:
    """A backfill's tasks by status, and when the rest will be done; without an id, of the latest.

    Example:  embedq backfill status
    """
    with opened() as store:
        done = backfilling.status(store, backfill_id)
        rate = store.overview.settled(60.0)["completed"] / 60.0
    left = done.tasks.get("pending", 0) + done.tasks.get("processing", 0)
    eta_s = left / rate if rate and left else None
    data = {key: done.state[key] for key in SHOWN} | {"tasks": done.tasks, "open": left, "rate_per_s": rate, "eta_s": eta_s}
    said: list[str | Table] = [Table(("", ""), [(key, done.state[key]) for key in SHOWN])]
    said.append(Table(("became", "tasks"), [*done.tasks.items()]) if done.tasks else "it has queued nothing")
    said.append(f"{left:,} are open, done in about {lasting(eta_s)}" if eta_s else f"{left:,} are open")
    if done.state["state"] == "running":
        said.append("it was interrupted, or still runs: `embedq backfill` continues it")
    return Answer(data, said)


@command(name="rollback", destroys=True)
@click.argument("backfill_id", required=False, metavar="[ID]")
def rollback(backfill_id: str | None, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Cancel exactly what a backfill queued and is not done yet; without an id, the latest one's. Existing vectors stay.

    A task that an edit has superseded is not cancelled. Exit code 1 when other sessions hold some of the tasks: run it again.

    Example:  embedq backfill rollback --reason "too expensive" --yes
    """
    with opened() as store:
        before = backfilling.status(store, backfill_id)
        name = before.state["backfill"]
        open_now = store.backfills.open(name)
        if dry_run:
            said = f"would cancel {open_now:,} tasks of backfill {name}; nothing was done (--dry-run)"
            return Answer({"backfill": name, "would_cancel": open_now, "tasks": before.tasks}, [_left(before.tasks), said])
        confirm(f"Cancel {open_now:,} tasks of backfill {name}?", yes=yes)
        done, cancelled, left = backfilling.rollback(store, name, who(), reason)
    kept = {status: number for status, number in done.tasks.items() if status not in ("cancelled", "pending", "processing")}
    said_lines: list[str | Table] = [f"backfill {name}: {cancelled:,} tasks cancelled"]
    said_lines += [f"left, because it was over already: {number:,} {status}" for status, number in kept.items()]
    if left:
        said_lines.append(f"{left:,} more are locked by other sessions: run it again")
    data = {"backfill": name, "cancelled": cancelled, "kept": kept, "left": left}
    return Answer(data, said_lines, FAILED if left else 0)


def _left(tasks: dict[str, int]) -> Table:
    return Table(("is", "tasks"), [*tasks.items()])


backfill.add_command(status)
backfill.add_command(rollback)
