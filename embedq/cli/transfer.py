"""`embedq export` and `embedq import`: tasks as lines of JSON."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO

import click

from .. import visible
from ..errors import InputError
from ..local.files import lines_of, open_regular, written
from ..model import OPEN
from ..operations.crash import answering
from .counter import progress
from .fences import PRIORITIES, TENANTS, opened
from .tasks import STATUS
from .voice import FAILED, Answer, Table, command, who

SHOWN = 20
# Statuses, priorities, tenants.
Chosen = tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]


@command(name="export")
@click.argument("path", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--status", "statuses", multiple=True, type=STATUS, help="Default: pending and processing. May be repeated.")
@PRIORITIES
@TENANTS
def export(path: Path, statuses: tuple[str, ...], priorities: tuple[str, ...], tenants: tuple[str, ...]) -> Answer | None:
    """Write tasks to a file, or to standard output, one JSON object a line, in one snapshot.

    Example:  embedq export queue.jsonl --priority low
    """
    chosen = (statuses or OPEN, priorities or None, tenants or None)
    if str(path) == "-":
        with answering():
            _write(sys.stdout, chosen)
        return None
    with written(path) as sink:
        number = _write(sink, chosen)
    return Answer({"tasks": number, "path": str(path)}, [f"{number} tasks written to {path}"])


def _write(sink: IO[str], chosen: Chosen) -> int:
    """Output to a pipe goes through a temporary file, so that a slow reader does not keep PostgreSQL's snapshot open."""
    if _is_file(sink):
        return _export(sink, chosen)
    with TemporaryFile("w+", encoding="utf-8") as spool:
        try:
            number = _export(spool, chosen)
            spool.seek(0)
        except OSError as full:
            raise InputError(
                f"the export does not fit into a temporary file: {full.strerror}",
                hint="set TMPDIR to a folder with room, or export into a file",
            ) from full
        shutil.copyfileobj(spool, sink)
    return number


def _is_file(sink: IO[str]) -> bool:
    try:
        return stat.S_ISREG(os.fstat(sink.fileno()).st_mode)
    except (OSError, ValueError):
        return False  # not of the operating system's


def _export(sink: IO[str], chosen: Chosen) -> int:
    number = 0
    with opened() as store, progress("exporting") as show:
        for number, line in enumerate(store.transfer.export(*chosen), 1):
            sink.write(visible.in_json(line) + "\n")
            if number % 1000 == 0:
                show(number)
    return number


def _source(path: Path) -> AbstractContextManager[BinaryIO]:
    if str(path) == "-":
        return nullcontext(sys.stdin.buffer)
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, and no export of tasks", hint=f"articles come by `embedq articles import {path}`"
        )
    try:
        return open_regular(path)
    except OSError as failed:
        raise InputError(
            f"{path} cannot be read: {failed.strerror}", hint="`embedq export FILE` writes such a file"
        ) from failed


@command(name="import", destroys=True)
@click.argument("path", default="-", type=click.Path(path_type=Path, allow_dash=True))
def import_(path: Path, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Create the open tasks of an export: one task per article and model.

    Articles that are embedded or have a task already are skipped, so importing twice changes nothing. Lines about articles that are
    not here, about finished tasks, and bad lines are counted and reported; so are lines of more than 10 MB. PATH is a regular file;
    for a pipe, name - and send it to standard input. (Articles come by `embedq articles import`.)

    Example:  embedq import queue.jsonl --reason "moved from the old server"
    """
    with opened() as store, _source(path) as source:
        taken = store.transfer.take(lines_of(source), dry_run=dry_run)
        counts = dict(taken.counts)
        if not dry_run:
            store.audit.write("import", f"import: {counts.get('made', 0)} tasks made", who=who(), reason=reason, counts=counts)
    said: list[str | Table] = [Table(("lines", "count"), sorted(counts.items()))] if counts else ["the file names no task"]
    if taken.refused:
        said.append(Table(("line", "why"), taken.refused[:SHOWN], "Refused"))
        if counts["refused"] > SHOWN:
            said.append(f"… {SHOWN} of {counts['refused']:,}; --json has the first {len(taken.refused):,}")
    if taken.foreign:
        said.append(Table(("line", "article"), taken.foreign[:SHOWN], "Not here"))
    said.append("nothing was done (--dry-run)" if dry_run else f"{counts.get('made', 0)} tasks made")
    return Answer(
        {**counts, "refused_lines": taken.refused, "foreign_lines": taken.foreign}, said, FAILED if taken.refused else 0
    )
