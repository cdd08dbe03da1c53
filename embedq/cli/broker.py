"""`embedq broker …`: look into the broker, drain it into the table, refill it, copy it to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from .. import wiring
from ..broker import MAKE_ANEW, Broker, shown
from ..decide.arguments import path_in_text
from ..operations.rollback import drain as draining
from ..settings import Settings, from_env
from ..store import Store
from .rejected import rejected
from .voice import NOT_WELL, Answer, Table, command, confirm, lasting, tell, who

QUEUE_OPTION = click.option("--queue", "more", multiple=True, help="Also this queue, beyond the four (repeatable).")


@click.group()
def broker() -> None:
    """Inspect the broker, drain it into the table, refill it, back it up; manage rejected messages."""


@contextmanager
def parts() -> Iterator[tuple[Settings, Store, Broker]]:
    settings = from_env(os.environ)
    store, its_broker = wiring.store(settings), wiring.broker(settings)
    try:
        yield settings, store, its_broker
    finally:
        its_broker.close()
        store.close()


@command(name="status")
def status() -> Answer:
    """Each queue: waiting, delivered and not acknowledged, delayed, consumers, and the tasks that are with the broker by the table.

    Exit code 3 when a queue holds messages and has no consumer, or is declared with other arguments than ours (RabbitMQ).

    Example:  embedq broker status
    """
    with parts() as (_, store, its_broker):
        queues, aside = draining.compared(store, its_broker), store.rejected.by_reason()
        other = its_broker.of_another_kind()
        address = shown(its_broker.url)
    rows = [[row[key] if key != "oldest_s" else lasting(row[key]) for key in row] for row in queues]
    said: list[str | Table] = [Table([name.replace("_", " ") for name in queues[0]], rows, f"The broker at {address}")]
    if aside:
        cells = [(row["queue"], row["reason"], row["messages"]) for row in aside]
        said.append(Table(("queue", "reason", "messages"), cells, "Kept for review (`embedq broker rejected list`)"))
    alone = [row["queue"] for row in queues if row["waiting"] and not row["consumers"]]
    if alone:
        said.append(
            f"no consumer for {', '.join(alone)}: start `celery -A embedq worker`, or `embedq mode database --reason …`"
        )
    if other:
        said.append(f"{', '.join(other)}: not declared as ours are, nothing can be published or consumed there: {MAKE_ANEW}")
    return Answer(
        {"broker": address, "queues": queues, "rejected": aside, "unconsumed": alone, "of_another_kind": other},
        said,
        NOT_WELL if alone or other else 0,
    )


@command(name="drain", destroys=True)
@QUEUE_OPTION
@click.option("--timeout", default=600.0, show_default=True, help="Seconds at most.")
def drain(more: tuple[str, ...], timeout: float, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Take every message out of the broker: waiting, delivered and not acknowledged, delayed. Known tasks become free in the
    table, other programs' embed messages become tasks, and messages that cannot be understood are kept raw for review.

    Example:  embedq broker drain --yes --reason "Redis is being replaced"
    """
    with parts() as (_, store, its_broker):
        queues = draining.compared(store, its_broker)
        there = sum(row["waiting"] + row["unacknowledged"] for row in queues)
        if dry_run:
            return Answer(
                {"messages": there, "queues": queues}, [f"would take {there:,} messages; nothing was done (--dry-run)"]
            )
        confirm(f"Take {there:,} messages out of the broker at {shown(its_broker.url)}?", yes=yes)
        done = draining.drain(store, its_broker, limit_s=timeout, more=more, say=tell)
        store.audit.write("broker", f"{done.messages} messages were drained", who=who(), reason=reason, **asdict(done))
        store.workers.wake()
        again = draining.is_refilled(store)
    said = f"{done.messages:,} messages taken: {done.freed:,} tasks freed, {done.made} tasks made, {done.rejected} messages kept for review"
    more_said = ["the live mode dispatches, so what was freed goes to the broker again"] if again else []
    return Answer(asdict(done), [said, *more_said])


@command(name="rebuild", destroys=True)
def rebuild(reason: str, yes: bool, dry_run: bool) -> Answer:
    """Refill an empty or inconsistent broker from the table: its messages are drained first, then every open task is published,
    up to EMBEDDING_QUEUE_MAX_DEPTH. Needs no running worker.

    Example:  embedq broker rebuild --yes --reason "Redis lost its data"
    """
    with parts() as (settings, store, its_broker):
        counts = store.switches.counts()
        if dry_run:
            open_tasks = counts["free"] + counts["with_broker"]
            return Answer(
                counts,
                [f"would free {counts['with_broker']:,} tasks and publish up to {open_tasks:,}; nothing was done (--dry-run)"],
            )
        confirm(f"Drain the broker at {shown(its_broker.url)} and publish all open tasks anew?", yes=yes)
        done = draining.rebuild(store, its_broker, settings)
        store.audit.write("broker", f"rebuilt: {done.dispatched} tasks published", who=who(), reason=reason, **asdict(done))
    said = f"{done.drained.messages:,} messages taken out, {done.freed:,} tasks freed, {done.dispatched:,} published"
    return Answer(asdict(done), [f"{said}; {done.left_in_table:,} wait in the table"])


@command(name="backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@QUEUE_OPTION
def backup(file: Path, more: tuple[str, ...]) -> Answer:
    """Copy every message of the broker into a file, a line of JSON each. Nothing is taken out.

    Example:  embedq broker backup broker.jsonl
    """
    with parts() as (_, store, its_broker):
        written = draining.back_up(its_broker, file, more)
        store.audit.write("broker", f"{written} messages were backed up", who=who(), file=path_in_text(file), messages=written)
    return Answer({"file": str(file), "messages": written}, [f"{written:,} messages written to {file}"])


for each in (status, drain, rebuild, backup, rejected):
    broker.add_command(each)
