"""`embedq mode`: show the live mode, or switch it while everything runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..client.client import Client
from ..decide.modes import deliveries
from ..errors import InputError
from ..model import Delivery, Mode
from ..operations.mode_switch import Switched, switch, would_switch
from ..store import Store
from .voice import Answer, Table, command, lasting, tell, who


@command(name="mode", destroys=True)
@click.argument("new", required=False, type=click.Choice([mode.value for mode in Mode]))
@click.option("--wait", is_flag=True, help="Also wait until what the old delivery holds has settled.")
@click.option("--timeout", default=30.0, show_default=True, help="With --wait: after so many seconds it is handed over.")
def mode(new: str | None, wait: bool, timeout: float, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Show the live mode, who set it, and which workers have seen it; or switch to another while everything runs.

    When the command returns, no worker of a delivery that is off can claim.

    Example:  embedq mode database --wait --reason "Redis is being replaced"
    """
    with Client() as client:
        if new is None:
            return shown(client)
        if dry_run:
            return _would(would_switch(client.store, Mode(new)))
        if not reason:
            raise InputError("a switch needs a reason", hint='add --reason "…"; the audit log keeps it')
        done = switch(client.store, Mode(new), reason, who(), wait_s=timeout if wait else None, say=tell)
    return _did(done)


def shown(client: Client) -> Answer:
    decision, live, workers = client.decision(), client.store.status.live(), seen_by(client.store)
    author = client.store.status.author(live)
    by, since, reason = author["who"], author["at"], author["reason"]
    data: dict[str, Any] = {
        "mode": decision.mode,
        "source": decision.source,
        "reason": reason if decision.source == "live" else decision.reason,
        "since": since,
        "by": by,
        "is_running": live.is_running,
        "submissions_accepted": live.submissions_accepted,
    }
    said: list[str | Table] = [Table(("", ""), list(data.items()))]
    columns = ("worker", "delivery", "alive", "mode seen", "up to date", "may claim", "holds")
    said.append(Table(columns, [[row[key] for key in row] for row in workers], "Workers"))
    return Answer(data | {"workers": workers}, said)


def seen_by(store: Store) -> list[dict[str, Any]]:
    """Workers of each delivery, whether they live, and which mode they have seen."""
    live = store.status.live().mode
    return [
        {
            "name": worker["name"],
            "delivery": worker["delivery"],
            "alive": worker["alive"],
            "mode_seen": worker["mode_seen"],
            "up_to_date": worker["mode_seen"] == live,
            "may_claim": Delivery(worker["delivery"]) in deliveries(live),
            "holds": worker["held"],
        }
        for worker in store.workers.all()
        if worker["delivery"] in tuple(Delivery)
    ]


def _would(facts: dict[str, Any]) -> Answer:
    rows = [(key.replace("_", " "), ", ".join(value) if isinstance(value, list) else value) for key, value in facts.items()]
    return Answer(facts, [Table(("", ""), rows), "nothing was done (--dry-run)"])


def _did(done: Switched) -> Answer:
    said: list[str | Table] = [f"mode {done.before} -> {done.after}; the fence held after {lasting(done.fenced_s)}"]
    if done.freed:
        said.append(f"{done.freed:,} tasks came back from the broker to the table")
    if done.made:
        said.append(f"{done.made:,} stale articles got a task")
    if done.in_flight:
        said.append(
            f"{done.in_flight:,} tasks were in flight: {done.settled_meanwhile:,} settled meanwhile, {done.handed_over:,} handed over"
            + (f", {done.taken + done.left:,} wait for a transaction" if done.taken + done.left else "")
        )
    said += [f"warning: {line}" for line in done.warnings]
    return Answer(asdict(done), said)
