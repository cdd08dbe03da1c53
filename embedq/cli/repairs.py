"""`embedq articles mark-review` and `reindex`: for articles with wrong texts or vectors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from ..errors import InputError
from ..model import Priority
from ..store import Store
from ..store.repairs import Which
from .fences import opened
from .voice import Answer, Table, command, confirm, who

STATUSES = ("queued", "processing", "ready", "failed", "skipped")
SHOWN = 50


def which_articles(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that select articles."""
    function = click.argument("keys", nargs=-1, metavar="[ARTICLE]...")(function)
    function = click.option("--status", type=click.Choice(STATUSES), help="Only those in this state.")(function)
    function = click.option("--tenant", help="Only this tenant's.")(function)
    function = click.option("--marked", is_flag=True, help="Only those marked for review.")(function)
    return click.option("--all", "everything", is_flag=True, help="Every article.")(function)


def which_of(
    store: Store, keys: tuple[str, ...], status: str | None, tenant: str | None, marked: bool, everything: bool
) -> Which:
    if not (keys or status or tenant or marked or everything):
        raise InputError("which articles?", hint="give ids or slugs, or --status, --tenant, --marked or --all")
    return Which(store.repairs.named(keys, tenant) if keys else None, tenant, status, marked)


@command(name="mark-review", destroys=True)
@which_articles
@click.option("--clear", is_flag=True, help="Remove the mark.")
def mark_review(
    keys: tuple[str, ...],
    status: str | None,
    tenant: str | None,
    marked: bool,
    everything: bool,
    clear: bool,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Mark articles for review: their metadata gets `embedq_review` with when, by whom and why. Texts and vectors stay.

    `articles reindex --marked` embeds them again; without arguments, and with --marked alone, those marked are listed.

    Example:  embedq articles mark-review tea coffee --reason "garbled by the import of Monday"
    """
    with opened() as store:
        if not (keys or status or everything or clear or dry_run):
            return _listed(store.repairs.marked(tenant, SHOWN))
        which = which_of(store, keys, status, tenant, marked or (clear and not keys), everything)
        number = store.repairs.count(which)["articles"]
        words = "unmark" if clear else "mark"
        if dry_run:
            return Answer({f"would_{words}": number}, [f"would {words} {number:,} articles; nothing was done (--dry-run)"])
        if not keys:
            confirm(f"{words.capitalize()} {number:,} articles?", yes=yes)
        review = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": who(), "reason": reason}
        done = store.repairs.unmark(which) if clear else store.repairs.mark(which, review)
        said = f"{done:,} articles are no longer marked" if clear else f"{done:,} articles marked for review"
        store.audit.write("review", said, who=who(), reason=reason, counts={words: done}, ids=list(which.ids or ())[:SHOWN])
    return Answer({f"{words}ed": done}, [said] if clear else [said, "next: `embedq articles reindex --marked`"])


def _listed(rows: list[dict[str, Any]]) -> Answer:
    if not rows:
        return Answer([], ["no article is marked for review"])
    cells = [
        (r["id"], r["tenant_id"], r["title"], r["review"].get("at"), r["review"].get("by"), r["review"].get("reason"))
        for r in rows
    ]
    return Answer(rows, [Table(("article", "tenant", "title", "marked", "by", "why"), cells)])


@command(name="reindex", destroys=True)
@which_articles
@click.option("--priority", type=click.Choice([p.value for p in Priority]), default="low", show_default=True)
def reindex(
    keys: tuple[str, ...],
    status: str | None,
    tenant: str | None,
    marked: bool,
    everything: bool,
    priority: str,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Embed articles again, although their vectors are of their newest text. Search uses the old vectors until the new ones are stored.

    It is paid for again: --dry-run says how many tokens. `embedq clear --reason reindex` takes back what is not done yet.

    Example:  embedq articles reindex --marked --priority high --reason "the provider had returned rubbish"
    """
    from ..operations.backfill import refuse_where_no_tasks_are_made

    with opened() as store:
        which = which_of(store, keys, status, tenant, marked, everything)
        expected = store.repairs.count(which)
        tokens = expected["bytes"] // 4
        if dry_run:
            said = f"would embed {expected['articles']:,} articles anew, about {tokens:,} tokens; nothing was done (--dry-run)"
            return Answer({"would_reindex": expected["articles"], "tokens": tokens}, [said])
        refuse_where_no_tasks_are_made(store)
        if not keys:
            confirm(f"Embed {expected['articles']:,} articles anew, about {tokens:,} tokens?", yes=yes)
        made = store.repairs.reindex(which, priority)
        words = f"{made:,} articles are embedded anew"
        store.audit.write("reindex", words, who=who(), reason=reason, counts={"made": made}, priority=priority)
    return Answer({"made": made}, [f"{words}, at priority {priority}", "next: `embedq wait`, then `embedq verify`"])
