"""`embedq alerts check`: the alert rules, evaluated by this command, without Prometheus."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from ..decide.alerts import NAMES, Alert, database_away, evaluated
from ..errors import StoreUnavailable
from ..operations.status import glance
from ..settings import from_env
from .fences import opened
from .voice import NOT_WELL, Answer, Table, command


@click.group()
def alerts() -> None:
    """Evaluate the alert rules."""


@command(name="check")
@click.option("--only", multiple=True, metavar="RULE", type=click.Choice(NAMES), help="Only this rule; may be repeated.")
def check(only: tuple[str, ...]) -> Answer:
    """Evaluate every alert rule now. Exit code 3 when one fires; each says which command helps.

    \b
    Rules: database-away, no-progress (due, workers alive, and nothing ends), database-read-only, clock (set back), stopped, broker-away
    (or takes no message), queue-not-consumed, steward-missing, threads-fail, provider-paused, crash-loop, tasks-stuck, oldest-too-old (due
    for 5 min), failure-rate (a tenth of the last hour's, ten at least), source-behind, rejected-messages, dead-letters-size (1 GB).

    Example:  embedq alerts check --json
    """
    found = [alert for alert in _evaluated() if not only or alert.name in (*only, "database-away")]
    firing = [alert for alert in found if alert.firing]
    rows = [("FIRING" if alert.firing else "silent", alert.name, alert.what, alert.next) for alert in found]
    data = {"firing": len(firing), "alerts": [asdict(alert) for alert in found]}
    return Answer(data, [Table(("", "rule", "what", "next"), rows)], NOT_WELL if firing else 0)


def _evaluated() -> list[Alert]:
    try:
        with opened() as store:
            return evaluated(glance(store, from_env(os.environ)).facts, store.history.kept())
    except StoreUnavailable as away:
        return database_away(str(away), away.hint)


alerts.add_command(check)
