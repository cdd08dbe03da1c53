"""`embedq reconcile`, `embedq verify` and `embedq cleanup`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from .. import wiring
from ..decide.refusals import of_file
from ..decide.snapshots import compare
from ..errors import InputError
from ..local.files import LONGEST_LINE, open_regular, written
from ..operations import sources as attaching
from ..settings import from_env
from ..store import Store
from .voice import NOT_WELL, Answer, Table, command, confirm, who

WITHOUT_VECTOR = {"pending": "wait", "processing": "are in work", "cancelled": "were cancelled or discarded"}
SAID = ("seen", "written", "removed", "unreadable", "example", "problem")


@command(name="reconcile", destroys=True)
@click.option(
    "--include",
    multiple=True,
    type=click.Choice(["failed", "skipped", "cancelled"]),
    help="Also articles whose last task has this status.",
)
@click.option(
    "--source", "sources", multiple=True, metavar="NAME", help="Compare only this source with its table; may be repeated."
)
def reconcile(include: tuple[str, ...], sources: tuple[str, ...], reason: str, yes: bool, dry_run: bool) -> Answer:
    """Compare every source with its table; repair embeddings and vectors that do not match their articles; give each article whose
    newest text has neither vector nor task a task.

    An article that a transaction is writing at this moment is left for the next time.

    Example:  embedq reconcile --include cancelled --reason "backfill resumed"
    """
    store = wiring.store(from_env(os.environ))
    compared = _compared(store, sources, dry_run=dry_run)
    counts = store.care.reconcile(also=include, dry_run=dry_run)
    if not dry_run:
        store.audit.write(
            "reconcile", f"{counts['made']} tasks made", who=who(), reason=reason, counts=counts, sources=compared
        )
    store.close()
    rows = [(f"stale, last task: {state}", number) for state, number in counts.items() if state not in ("made", "mended")]
    said: list[str | Table] = [Table(("articles", "count"), rows)] if rows else ["nothing is stale"]
    if counts["mended"]:
        said.append(f"{counts['mended']} rows that do not match their article {'would be' if dry_run else 'were'} repaired")
    for name, found in compared.items():
        said.append(f"source {name}: " + ", ".join(f"{number} {what}" for what, number in found.items()))
    data = counts | ({"sources": compared} if compared else {})
    wrong = any("problem" in found for found in compared.values())
    said.append("nothing was done (--dry-run)" if dry_run else f"{counts['made']} tasks made")
    return Answer(data, said, NOT_WELL if wrong else 0)


def _compared(store: Store, names: tuple[str, ...], *, dry_run: bool) -> dict[str, Any]:
    """By source, what the comparison with its table repaired, or would repair."""
    if dry_run:
        return {name: store.sources.differences(name) for name in names or store.sources.names()}
    compared = attaching.compare_all(store, names)
    return {name: {key: value for key, value in found.items() if key in SAID} for name, found in compared.items()}


@command(name="verify")
@click.option(
    "--snapshot", type=click.Path(path_type=Path, dir_okay=False), help="Save what was counted, to compare with later."
)
@click.option("--compare", "earlier", type=click.Path(path_type=Path, dir_okay=False), help="Compare with a snapshot.")
def verify(snapshot: Path | None, earlier: Path | None) -> Answer:
    """Prove by set difference that every article is embedded, has an open task, or a failed or skipped one you can see.

    Example:  embedq verify --snapshot before.json; …; embedq verify --compare before.json
    """
    before = _snapshot_from(earlier) if earlier else None
    with closing(wiring.store(from_env(os.environ))) as store:
        facts = store.care.verify()
    facts["taken_at"] = datetime.now(UTC).isoformat()
    if snapshot:
        with written(snapshot) as sink:
            sink.write(json.dumps(facts, indent=2, default=str) + "\n")
    said: list[str | Table] = [
        Table(("", ""), [(key, value) for key, value in facts.items() if not isinstance(value, list | dict)])
    ]
    problems = list(facts["problems"])
    if before is not None:
        rows, changed = compare(before, facts)
        said = [Table(("", before.get("taken_at", "before"), "now", "change"), [(*row, row[2] - row[1]) for row in rows])]
        problems += [problem for problem in changed if problem not in problems]
        facts |= {"before": before, "problems": problems}
    said += [f"problem: {problem}" for problem in problems] or [_nothing_lost(facts)]
    return Answer(facts, said, NOT_WELL if problems else 0)


def _nothing_lost(facts: Mapping[str, Any]) -> str:
    """Also articles that search does not find although they are embedded."""
    if not facts["stale"]:
        return "nothing is missing"
    by = ", ".join(f"{number:,} {WITHOUT_VECTOR.get(state, state)}" for state, number in sorted(facts["stale_by_task"].items()))
    if facts["stale_by_task"].keys() <= {"pending", "processing"}:
        return f"nothing is missing; {facts['stale']:,} articles are still to be embedded"
    return f"nothing is lost; search does not find the newest text of {facts['stale']:,} articles: {by}"


def _snapshot_from(path: Path) -> dict[str, Any]:
    """Raises InputError if the file is not a snapshot."""
    hint = "`embedq verify --snapshot FILE` writes one"
    try:
        with open_regular(path) as source:
            found = json.loads(source.read(LONGEST_LINE))
    except OSError as failed:
        raise of_file(failed, path, "read", hint) from failed
    except (ValueError, RecursionError) as wrong:
        raise InputError(f"{path} is not a snapshot: {wrong}", hint=hint) from wrong
    if not isinstance(found, dict) or "wanted" not in found:
        raise InputError(f"{path} is not a snapshot", hint=hint)
    return found


@command(name="cleanup", destroys=True)
@click.option("--days", type=click.IntRange(0), help="Older than so many days; default EMBEDDING_CLEANUP_RETENTION_DAYS.")
def cleanup(days: int | None, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Delete finished and old rows: completed and cancelled tasks, samples, audit lines, the texts of deleted
    articles, rejected broker messages that were reviewed.

    Failed and skipped tasks stay for review (`embedq dead-letter`).

    Example:  embedq cleanup --days 7 --yes
    """
    settings = from_env(os.environ)
    older = settings.cleanup_retention_days if days is None else days
    with closing(wiring.store(settings)) as store:
        counts = store.care.would_clean_up(older)
        if dry_run:
            return Answer({"would_remove": counts, "days": older}, [_counted(counts), "nothing was done (--dry-run)"])
        confirm(f"Delete {sum(counts.values())} rows older than {older} days?", yes=yes)
        removed = store.care.clean_up(older)
        said = f"{sum(removed.values())} old rows were removed"
        store.audit.write("cleanup", said, who=who(), reason=reason, counts=removed, days=older)
    return Answer({"removed": removed, "days": older}, [_counted(removed), said])


def _counted(counts: Mapping[str, int]) -> Table:
    return Table(("what", "rows"), [*counts.items()])
