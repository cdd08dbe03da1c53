"""`embedq uninstall`."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from .. import wiring
from ..errors import InputError
from ..operations.uninstall import Uninstalled, refuse_while_workers_live, uninstall
from ..settings import from_env
from ..store import Store, half_removed, schema
from ..store.dependents import Dependents, dependents, refuse_while_held
from ..store.remains import drops
from .fences import opened
from .voice import FAILED, Answer, Table, command, confirm, tell, who


@command(name="uninstall", destroys=True)
@click.option("--keep-articles", is_flag=True, help="Leave the articles behind as a plain table `articles`.")
@click.option(
    "--backup",
    "backup_to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the backup goes; default: embedq-TIME.backup in the present folder.",
)
@click.option("--no-backup", is_flag=True, help="Write none: nothing can be brought back.")
def uninstall_(keep_articles: bool, backup_to: Path | None, no_backup: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Remove everything of embedq's: backup, stop, cancel, empty the broker, take the schema down; then verify that nothing remains.

    Workers must have been ended before. Exit code 1 when something remains. `embedq db upgrade` and `embedq restore FILE`
    bring it all back.

    Example:  embedq uninstall --keep-articles --dry-run
    """
    if no_backup and backup_to:
        raise InputError("--backup and --no-backup contradict each other", hint="name one of them")
    settings = from_env(os.environ)
    to = None if no_backup else backup_to or Path(f"embedq-{datetime.now(UTC):%Y%m%d-%H%M%S}.backup")
    with opened() as store, closing(wiring.broker(settings)) as broker:
        if dry_run:
            return _planned(store, to, keep_articles)
        if schema.current(store.database) is not None:
            refuse_while_workers_live(store)
            found = dependents(store.database)
            refuse_while_held(found)
            for what in found.go:
                tell(f"goes with the tables: {what}")
        confirm(f"Remove embedq and all it keeps ({_articles_told(keep_articles)})?", yes=yes)
        done = uninstall(store, broker, who(), reason, to=to, keep_articles=keep_articles, say=tell)
    return _did(done, keep_articles)


def _articles_told(keep_articles: bool) -> str:
    return "the articles stay as a plain table" if keep_articles else "the articles too"


def _planned(store: Store, to: Path | None, keep_articles: bool) -> Answer:
    installed = schema.current(store.database) is not None
    gone = half_removed.gone(store.database)
    counts = store.overview.about_rows() if installed and not gone else {}
    alive = [worker["name"] for worker in store.workers.all() if worker["alive"]] if installed and not gone else []
    found = dependents(store.database) if installed else Dependents()
    left = [] if installed else drops(store.database, schema.RELATIONS)
    data = {
        "installed": installed,
        "backup": to and str(to),
        "keep_articles": keep_articles,
        "about_rows": counts,
        "workers_alive": alive,
        "held_by": found.hold,
        "goes_too": found.go,
        "leftovers": left,
        "missing": gone,
    }
    said: list[str | Table] = [
        Table(("table", "rows, about"), [*counts.items()])
        if counts
        else half_removed.told(gone)
        if gone
        else "there is no schema of embedq's"
    ]
    said += [f"must be ended first: {name}" for name in alive]
    said += [f"must be dropped first: {what}" for what in found.hold]
    said += [f"goes with the tables: {what}" for what in found.go]
    said += [f"left over of an earlier embedq; its owner drops it by: {statement};" for statement in left]
    said.append(f"would write {to}, stop, cancel, empty the broker and drop the schema; {_articles_told(keep_articles)}")
    return Answer(data, [*said, "nothing was done (--dry-run)"])


def _did(done: Uninstalled, keep_articles: bool) -> Answer:
    said: list[str | Table] = [f"left, because it is not ours alone: {what}" for what in done.left]
    said += [f"STILL THERE: {what}" for what in done.remains]
    if done.drops:
        said += ["look at them (tables may hold rows); then their owner drops them in psql, and the same command looks again:"]
        said += [f"    {statement};" for statement in done.drops]
    if not done.remains:
        said.append(
            "looked: no table, view, function, trigger, type or queue of embedq's remains; " + _articles_told(keep_articles)
        )
    if done.backup:
        said.append(f"to go back: embedq db upgrade && embedq restore {done.backup} --yes")
    return Answer(asdict(done) | {"keep_articles": keep_articles}, said, FAILED if done.remains else 0)
