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

from .. import assemble
from ..decide.health import compare
from ..errors import InputError
from ..settings import from_env
from .voice import NOT_WELL, Answer, Table, command, confirm, who


@command(name="reconcile", destroys=True)
@click.option(
    "--include",
    multiple=True,
    type=click.Choice(["failed", "skipped", "cancelled"]),
    help="Also articles whose last task ended so.",
)
def reconcile(include: tuple[str, ...], reason: str, yes: bool, dry_run: bool) -> Answer:
    """Find articles whose newest text has no vector and nobody has promised one; give each a task.

    Example:  embedq reconcile --include cancelled --reason "backfill resumed"
    """
    store = assemble.store(from_env(os.environ))
    counts = store.care.reconcile(also=include, dry_run=dry_run)
    if not dry_run:
        store.audit.write("reconcile", f"{counts['made']} tasks made", who=who(), reason=reason, counts=counts)
    store.close()
    rows = [(f"stale, last task: {state}", number) for state, number in counts.items() if state != "made"]
    said: list[str | Table] = [Table(("articles", "count"), rows)] if rows else ["nothing is stale"]
    return Answer(counts, [*said, "nothing was done (--dry-run)" if dry_run else f"{counts['made']} tasks made"])


@command(name="verify")
@click.option(
    "--snapshot", type=click.Path(path_type=Path, dir_okay=False), help="Save what was counted, to compare with later."
)
@click.option(
    "--compare", "earlier", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Compare with a snapshot."
)
def verify(snapshot: Path | None, earlier: Path | None) -> Answer:
    """Prove by set difference that every article is embedded, has an open task, or a failed or skipped one you can see.

    Example:  embedq verify --snapshot before.json; …; embedq verify --compare before.json
    """
    before = _snapshot_from(earlier) if earlier else None
    with closing(assemble.store(from_env(os.environ))) as store:
        facts = store.care.verify()
    facts["taken_at"] = datetime.now(UTC).isoformat()
    if snapshot:
        snapshot.write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")
    said: list[str | Table] = [
        Table(("", ""), [(key, value) for key, value in facts.items() if not isinstance(value, list | dict)])
    ]
    problems = list(facts["problems"])
    if before is not None:
        rows, changed = compare(before, facts)
        said = [Table(("", before.get("taken_at", "before"), "now", "change"), [(*row, row[2] - row[1]) for row in rows])]
        problems += [problem for problem in changed if problem not in problems]
        facts |= {"before": before, "problems": problems}
    said += [f"problem: {problem}" for problem in problems] or ["nothing is missing"]
    return Answer(facts, said, NOT_WELL if problems else 0)


def _snapshot_from(path: Path) -> dict[str, Any]:
    """Raises InputError when the file is no snapshot."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise InputError(f"{path} cannot be read: {wrong}", hint="`embedq verify --snapshot FILE` writes one") from wrong
    if not isinstance(found, dict) or "wanted" not in found:
        raise InputError(f"{path} is no snapshot", hint="`embedq verify --snapshot FILE` writes one")
    return found


@command(name="cleanup", destroys=True)
@click.option("--days", type=click.IntRange(0), help="Older than so many days; default EMBEDDING_CLEANUP_RETENTION_DAYS.")
def cleanup(days: int | None, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Delete what is finished and old: completed and cancelled tasks, samples, audit lines, the texts of deleted articles.

    Failed and skipped tasks stay: somebody has to see them (`embedq dead-letter`).

    Example:  embedq cleanup --days 7 --yes
    """
    settings = from_env(os.environ)
    older = settings.cleanup_retention_days if days is None else days
    with closing(assemble.store(settings)) as store:
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
