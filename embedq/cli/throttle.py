"""`embedq throttle`: limit rate, batch and concurrency while everything runs."""

from __future__ import annotations

from dataclasses import replace

import click

from ..decide.throttle import Throttle, rate_per_min
from ..errors import InputError
from .fences import opened
from .voice import Answer, Table, command, who


@command(name="throttle", changes=True)
@click.argument("off", required=False, type=click.Choice(["off"]))
@click.option("--rate", metavar="N/min", help="Tasks claimed in that time by all workers together: 600/min, 10/s, 5000/h.")
@click.option("--batch", type=click.IntRange(1, 10_000), help="Tasks claimed at once.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Batches under way at once in one process.")
def throttle(off: str | None, rate: str | None, batch: int | None, concurrency: int | None, reason: str, yes: bool) -> Answer:
    """Show the throttle, or change it: values that are not given stay. `off` removes it.

    Every claim after the command obeys it; no worker is restarted. A rate applies to the whole deployment, in
    intervals of ten seconds.

    Example:  embedq throttle --rate 600/min --concurrency 1 --reason "the database is busy"
    """
    wanted = Throttle(rate_per_min(rate) if rate else None, batch, concurrency)
    if off and wanted:
        raise InputError("off and a limit contradict each other", hint="name one of them")
    with opened() as store:
        if not off and not wanted:
            return _shown(store.throttles.live(), "in force")
        changes = {
            name: getattr(wanted, name) for name in ("rate", "batch", "concurrency") if getattr(wanted, name) is not None
        }
        before, now = store.throttles.change(lambda held: Throttle() if off else replace(held, **changes), who(), reason)
        store.workers.wake()
    answer = _shown(now, "in force from now on")
    answer.data["before"] = before.data()
    return answer


def _shown(found: Throttle, words: str) -> Answer:
    rows = [("rate, tasks/min", found.rate), ("batch", found.batch), ("concurrency in a process", found.concurrency)]
    data = {"throttle": found.data()}
    if not found:
        return Answer(data, ["no throttle; the settings apply"])
    return Answer(data, [Table(("", words), rows), "next: `embedq throttle off` ends it"])
