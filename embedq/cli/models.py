"""`embedq model …`: build another model beside the active one, switch to it, switch back. Here the group, `list` and `status`."""

from __future__ import annotations

from typing import Any

import click

from ..decide.preparation import of_register, told
from .fences import opened
from .model_building import add, build
from .model_comparing import compare, scores
from .model_switching import accept, activate, drop, rollback, shown
from .voice import Answer, Table, command, lasting


@click.group()
def model() -> None:
    """Build a model beside the active one, compare, switch, switch back, drop."""


@command(name="list")
def list_() -> Answer:
    """The registered models: which one search follows, and which are kept in step with edits.

    Example:  embedq model list
    """
    with opened() as store:
        rows = store.models.all()
    columns = ("id", "provider", "name", "dimensions", "storage")
    cells = [(*(r[name] for name in columns), _role(r), r["kept_in_step"], r["created_at"], _inputs(r)) for r in rows]
    return Answer(rows, [Table((*columns, "role", "kept in step", "registered", "inputs"), cells)])


def _inputs(row: dict[str, Any]) -> str:
    return told(of_register(row["preparation"])) or "as the text is"


def _role(row: dict[str, Any]) -> str:
    return "active" if row["active"] else "previous" if row["previous"] else ""


@command(name="status")
@click.argument("key", required=False, metavar="[MODEL]")
def status(key: str | None) -> Answer:
    """How far each model, or one, is: complete, missing, behind, rate, time left, size.

    Example:  embedq model status
    """
    with opened() as store:
        chosen = [store.models.named(key)] if key else list(store.models.by_id().values())
        found = [(each, store.models.progress(each)) for each in chosen]
    data = [{"id": each.id, "model": str(each)} | shown(progress) for each, progress in found]
    cells = [
        (
            each.id,
            str(each),
            f"{p.complete:,} of {p.articles:,}",
            p.missing,
            p.behind,
            p.open,
            p.failed,
            f"{p.rate_per_s:.1f}/s",
            lasting(p.eta_s) if p.open else "-",
            f"{p.bytes / 1e6:,.1f} MB",
        )
        for each, p in found
    ]
    return Answer(
        data, [Table(("id", "model", "complete", "missing", "behind", "open", "failed", "rate", "left", "size"), cells)]
    )


for each in (list_, add, build, scores, status, compare, activate, rollback, accept, drop):
    model.add_command(each)
