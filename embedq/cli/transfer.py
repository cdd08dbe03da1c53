"""`embedq export` and `embedq import`: tasks as lines of JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import click

from ..model import OPEN
from .articles import progress
from .fences import PRIORITIES, TENANTS, opened
from .tasks import STATUS
from .voice import FAILED, Answer, Table, command, who

SHOWN = 20


@command(name="export")
@click.argument("path", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--status", "statuses", multiple=True, type=STATUS, help="Default: pending and processing. May be repeated.")
@PRIORITIES
@TENANTS
def export(path: Path, statuses: tuple[str, ...], priorities: tuple[str, ...], tenants: tuple[str, ...]) -> Answer | None:
    """Write tasks to a file, or to standard output, one JSON object a line, as one moment saw them.

    Example:  embedq export queue.jsonl --priority low
    """
    chosen = (statuses or OPEN, priorities or None, tenants or None)
    if str(path) == "-":
        _write(sys.stdout, chosen)
        return None
    with path.open("w", encoding="utf-8") as sink:
        number = _write(sink, chosen)
    return Answer({"tasks": number, "path": str(path)}, [f"{number} tasks written to {path}"])


def _write(sink: IO[str], chosen: tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]) -> int:
    number = 0
    with opened() as store, progress("exporting") as show:
        for number, line in enumerate(store.transfer.export(*chosen), 1):
            sink.write(line + "\n")
            if number % 1000 == 0:
                show(number)
    return number


@command(name="import", destroys=True)
@click.argument("path", default="-", type=click.Path(path_type=Path, allow_dash=True))
def import_(path: Path, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Make the open tasks of an export anew: one promise per article and model.

    What is embedded or promised already is left alone, so that importing twice is importing once. Lines about articles that are
    not here, about finished tasks, and bad lines are counted and reported. (Articles come by `embedq articles import`.)

    Example:  embedq import queue.jsonl --reason "moved from the old server"
    """
    with opened() as store, click.open_file(str(path), encoding="utf-8", errors="replace") as lines:
        taken = store.transfer.take(lines, dry_run=dry_run)
        counts = dict(taken.counts)
        if not dry_run:
            store.audit.write("import", f"import: {counts.get('made', 0)} tasks made", who=who(), reason=reason, counts=counts)
    said: list[str | Table] = [Table(("lines", "count"), sorted(counts.items()))] if counts else ["the file names no task"]
    if taken.refused:
        said.append(Table(("line", "why"), taken.refused[:SHOWN], "Refused"))
    if taken.foreign:
        said.append(Table(("line", "article"), taken.foreign[:SHOWN], "Not here"))
    said.append("nothing was done (--dry-run)" if dry_run else f"{counts.get('made', 0)} tasks made")
    return Answer(
        {**counts, "refused_lines": taken.refused, "foreign_lines": taken.foreign}, said, FAILED if taken.refused else 0
    )
