"""`embedq backup` and `embedq restore`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..decide.arguments import path_in_text
from ..errors import InputError
from ..operations import backup as backups
from ..store import Store
from .counter import progress
from .fences import opened
from .voice import Answer, Table, command, confirm, who

PARTS = ("articles", "vectors", "audit")
FILE = click.Path(path_type=Path, dir_okay=False)


def parts_of(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    named = [part.strip() for part in value.split(",") if part.strip()]
    for part in named:
        if part not in PARTS:
            raise click.BadParameter(f"{part!r} is not a part of a backup; parts are: {', '.join(PARTS)}")
    return named


@command(name="backup", changes=True)
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--with",
    "parts",
    default="",
    metavar="PARTS",
    callback=parts_of,
    help="articles (with their versions) and vectors, separated by commas. The audit log is always in it.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--keep", type=click.IntRange(1, 10_000), metavar="N", help="Into a folder: keep the N newest of its backups.")
def backup(path: Path, parts: list[str], force: bool, keep: int | None, reason: str, yes: bool) -> Answer:
    """Write the queue, the live state, models and audit log to one file, in one snapshot; optionally also articles and vectors.

    The file is compressed, has a checksum, and appears whole or not at all. It holds no setting that is a secret; with articles it
    holds their texts. Into a folder it is named embedq-TIME.backup; with --keep older ones of that name are removed when the new one is written
    and checked (docs/howto/r16-restore.rst shows it by cron and systemd).

    Example:  embedq backup embedq.backup --with articles,vectors
    Example:  embedq backup /srv/backups --keep 14
    """
    folder = path if path.is_dir() else None
    if keep is not None and folder is None:
        raise InputError("--keep needs a folder", hint="make the folder first, and name it in place of a file", field="keep")
    path = folder / f"embedq-{datetime.now(UTC):%Y%m%d-%H%M%S}.backup" if folder else path
    if path.exists() and not force:
        raise InputError(f"{path} exists already", hint="choose another name, or add --force to overwrite it")
    with opened() as store:
        with progress("writing") as show:
            contents = backups.write(store, path, parts, show)
        store.audit.write(
            "backup", f"backup of {sum(contents.rows.values())} rows", who=who(), reason=reason, counts=dict(contents.rows)
        )
    removed = _rotated(folder, keep, path) if folder and keep else []
    data = {
        "path": str(path),
        "bytes": path.stat().st_size,
        "rows": contents.rows,
        "header": contents.header,
        "removed": removed,
    }
    said = f"{sum(contents.rows.values()):,} rows are in {path} ({path.stat().st_size:,} bytes)"
    gone = [f"removed, because {keep} are kept: {name}" for name in removed]
    return Answer(data, [_rows_table(contents.rows), said, *gone, f"next: `embedq restore {path} --dry-run` checks the file"])


ROTATED = "embedq-[0-9]*-[0-9]*.backup"


def _rotated(folder: Path, keep: int, newest: Path) -> list[str]:
    """Removes the oldest beyond `keep`, once the newest has been verified; returns their names."""
    backups.verify(newest)
    beyond = sorted(each for each in folder.glob(ROTATED) if each.is_file())[:-keep]
    for each in beyond:
        each.unlink()
    return [each.name for each in beyond]


def _rows_table(rows: Any) -> Table:
    return Table(("table", "rows"), [*rows.items()])


@command(name="restore", destroys=True)
@click.argument("path", metavar="FILE", type=FILE)
@click.option("--live-row", is_flag=True, help="Also mode, pauses and throttle, over the present ones.")
def restore(path: Path, live_row: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Restore a backup. The whole file is checked first; one that is cut off or altered is refused before anything is changed. Also
    refused: anything but a regular file, a row of more than 64 MB, and a file that unpacks to more than 300 MB and 500 times its size.

    \b
    Over a newer state it asks, and then reconciles:
      tasks that were open then and were cancelled or failed since wait again; what is open or done by now stays;
      texts that were edited since are put back as a new version, the newer text stays in the history;
      what was made since stays. Mode, pauses and throttle stay as they are here, unless --live-row is given or nothing is here yet.
    If it is interrupted, run it again: the result is the same.

    Example:  embedq restore embedq.backup --dry-run; embedq restore embedq.backup --yes --reason "the queue was cleared"
    """
    with progress("checking") as show:
        contents = backups.verify(path, show)
    with opened() as store:
        here = store.backups.newer_than(contents.header["taken_at"])
        if dry_run:
            return Answer({"header": contents.header, "rows": contents.rows, "here": here}, _planned(contents, here))
        empty = not (here["tasks"] or here["articles"])
        if not empty:
            confirm(_question(here, contents), yes=yes)
        with progress("restoring") as show:
            done = backups.restore(store, path, live_row=live_row or empty, show=show, checked=contents)
        _note(store, path, done, reason)
    rows = [(table, what, number) for table, counts in done.loaded.items() for what, number in counts.items()]
    said: list[str | Table] = [Table(("table", "became", "rows"), rows), *(f"warning: {line}" for line in done.warnings)]
    said.append(f"{done.made:,} stale articles got a task; `embedq verify` proves that nothing is missing")
    return Answer({"loaded": done.loaded, "made": done.made, "warnings": done.warnings, "header": contents.header}, said)


def _planned(contents: backups.Contents, here: dict[str, Any]) -> list[str | Table]:
    said: list[str | Table] = [_rows_table(contents.rows), f"the file is complete; taken at {contents.header['taken_at']}"]
    return [*said, _newer(here), "nothing was done (--dry-run)"]


def _newer(here: dict[str, Any]) -> str:
    return f"here, {here['tasks_since']:,} tasks and {here['articles_since']:,} articles are younger than it"


def _question(here: dict[str, Any], contents: backups.Contents) -> str:
    return f"Restore the backup of {contents.header['taken_at']} over what is here? ({_newer(here)})"


def _note(store: Store, path: Path, done: backups.Restored, reason: str) -> None:
    counts = {table: dict(counted) for table, counted in done.loaded.items()}
    store.audit.write(
        "restore", f"restored from {path_in_text(path.name)}", who=who(), reason=reason, counts=counts, made=done.made
    )
