"""`embedq usage`: tokens and cost, from the ledger."""

from __future__ import annotations

import os
from contextlib import closing

import click

from .. import wiring
from ..decide.prices import cap_of
from ..settings import from_env
from .voice import Answer, Table, command


@command(name="usage")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 3650), help="How many days (UTC), today included.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--model", help="Only models with this in their name.")
def usage(days: int, tenant: str | None, model: str | None) -> Answer:
    """What the providers were asked for, by day, tenant and model. Cost: by EMBEDDING_PRICES at the time.

    Example:  embedq usage --days 30 --tenant acme
    """
    settings = from_env(os.environ)
    with closing(wiring.store(settings)) as store:
        rows = store.ledger.by_day(days, tenant, model)
        today = store.ledger.today()
    names = ("requests", "inputs", "reused", "tokens", "cost")
    total = {name: sum(row[name] for row in rows) for name in names}
    cells = [
        (r["day"], r["tenant_id"], r["model"], round(r["requests"]), r["inputs"], r["reused"], r["tokens"], f"{r['cost']:,.4f}")
        for r in rows
    ]
    said: list[str | Table] = [Table(("day", "tenant", "model", *names), cells)] if rows else ["nothing was used in these days"]
    said.append(
        f"in all {total['tokens']:,} tokens in {total['requests']:,.0f} requests, {total['reused']:,} vectors reused, cost {total['cost']:,.4f}"
    )
    cap = cap_of(settings.daily_cap)
    if cap:
        reached = "reached: normal and low wait" if cap.reached(today.cost, today.tokens) else "not reached"
        said.append(f"today {today.tokens:,} tokens, cost {today.cost:,.4f}; the cap of {cap} a day is {reached}")
    return Answer({"days": rows, "total": total, "cap": settings.daily_cap or None}, said)
