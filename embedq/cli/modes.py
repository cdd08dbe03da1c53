"""`embedq mode`."""

from __future__ import annotations

import click

from ..client import Client
from ..errors import InputError
from ..model import Mode
from .voice import Answer, Table, command, who


@command(name="mode", changes=True)
@click.argument("new", required=False, type=click.Choice([mode.value for mode in Mode]))
def mode(new: str | None, reason: str, yes: bool) -> Answer:
    """Show the live mode and who set it, or switch to another while everything runs.

    Example:  embedq mode database --reason "Redis is being replaced"
    """
    with Client() as client:
        if new is not None:
            if not reason:
                raise InputError("a switch needs its reason", hint='add --reason "…"; the audit log keeps it')
            before = client.decision().mode
            client.store.status.set_mode(Mode(new), reason, who())
            client.store.audit.write("mode", f"mode {before} -> {new}: {reason}", who=who(), before=before, after=new)
        decision, live = client.decision(), client.store.status.live() or {}
    data = {
        "mode": decision.mode,
        "source": decision.source,
        "reason": decision.reason,
        "since": live.get("changed_at"),
        "by": live.get("changed_by"),
    }
    return Answer(data, [Table(("", ""), list(data.items()))])
