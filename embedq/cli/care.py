"""`embedq reconcile` and `embedq verify`."""

from __future__ import annotations

import os

import click

from .. import assemble
from ..settings import from_env
from .voice import NOT_WELL, Answer, Table, command, who


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
def verify() -> Answer:
    """Prove by set difference that every article is embedded, has an open task, or a failed or skipped one you can see.

    Example:  embedq verify --json
    """
    store = assemble.store(from_env(os.environ))
    facts = store.care.verify()
    store.close()
    problems = facts["problems"]
    said: list[str | Table] = [
        Table(("", ""), [(key, value) for key, value in facts.items() if not isinstance(value, list | dict)])
    ]
    said += [f"problem: {problem}" for problem in problems] or ["nothing is missing"]
    return Answer(facts, said, NOT_WELL if problems else 0)
