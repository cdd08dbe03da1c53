"""`embedq broker rejected …`: broker messages that could not be understood: list, review, retry, purge."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import click

from ..decide.messages import escaped
from ..errors import InputError, NotFound
from ..store import Store
from ..store.database import Row
from ..store.rejected import Drained
from .fences import opened
from .voice import FAILED, Answer, Table, command, confirm, who

LIMIT = click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
IDS = click.argument("ids", nargs=-1, type=click.IntRange(1), metavar="[ID]...")
COLUMNS = ("id", "queue", "why", "bytes", "times", "first", "last", "reviewed")


@click.group()
def rejected() -> None:
    """List, show, review, retry and purge rejected broker messages."""


def register(made: click.Command) -> click.Command:
    rejected.add_command(made)
    return made


def cells(row: Row) -> tuple[object, ...]:
    return (
        row["id"],
        row["queue"],
        row["reason"],
        row["bytes"],
        row["seen"],
        row["received_at"],
        row["last_at"],
        row["reviewed_at"],
    )


@register
@command(name="list")
@LIMIT
@click.option("--all", "everything", is_flag=True, help="Also those that were reviewed.")
def list_(limit: int, everything: bool) -> Answer:
    """Broker messages that were set aside, the last one first; without what was in them.

    Example:  embedq broker rejected list --limit 20
    """
    with opened() as store:
        rows, total = store.rejected.listed(limit, reviewed=everything)
    data = {"messages": rows, "shown": len(rows), "of": total}
    if not rows:
        return Answer(data, ["no message is set aside" + ("" if everything else " and not reviewed")])
    advice = "next: embedq broker rejected show ID, then retry, review or purge"
    return Answer(data, [Table(COLUMNS, [cells(row) for row in rows]), f"{len(rows):,} of {total:,}; {advice}"])


@register
@command(name="show")
@click.argument("message", type=click.IntRange(1), metavar="ID")
def show(message: int) -> Answer:
    """One message: why it was set aside, when, how large it was, and what is kept of it, with everything escaped that is not printable
    ASCII. Of a large message the first 16,384 bytes are kept.

    Example:  embedq broker rejected show 12
    """
    with opened() as store:
        row = store.rejected.one(message)
    if row is None:
        raise _unknown([message])
    raw = bytes(row.pop("raw"))
    whole = len(raw) == row["bytes"]
    data = row | {"raw": escaped(raw), "raw_base64": base64.b64encode(raw).decode(), "whole": whole}
    kept = "the whole message" if whole else f"the first {len(raw):,} of its {row['bytes']:,} bytes"
    return Answer(data, [Table(("", ""), list(zip(COLUMNS, cells(row), strict=True))), f"{kept}:", escaped(raw)])


@register
@command(name="review", changes=True)
@IDS
@click.option("--all", "everything", is_flag=True, help="All that were not reviewed.")
def review(ids: tuple[int, ...], everything: bool, reason: str, yes: bool) -> Answer:
    """Mark these messages as reviewed, so that alerts do not count them. One that arrives again is unreviewed again.

    Example:  embedq broker rejected review 12 13 --reason "a test of the shop's team"
    """
    with opened() as store:
        picked = _picked(store, ids, everything)
        done = store.rejected.review(picked)
        store.audit.write("broker", f"{done} rejected messages were reviewed", who=who(), reason=reason, messages=picked[:100])
    return Answer({"reviewed": done}, [f"{done:,} messages are reviewed"])


@register
@command(name="retry", changes=True)
@IDS
@click.option("--all", "everything", is_flag=True, help="All that were not reviewed.")
def retry(ids: tuple[int, ...], everything: bool, reason: str, yes: bool) -> Answer:
    """Process these messages again: known tasks become free, so that they are dispatched anew, and articles that are known
    by now get a task. A message that could be processed is marked reviewed. Exit code 1 when one could not.

    Example:  embedq broker rejected retry 12 --reason "the article was restored"
    """
    with opened() as store:
        picked = _picked(store, ids, everything)
        found = {message: store.rejected.again(message) for message in picked}
        useful = {message: done for message, done in found.items() if isinstance(done, Drained)}
        freed, made = sum(done.freed for done in useful.values()), sum(done.made for done in useful.values())
        facts = {"retried": len(useful), "freed": freed, "made": made}
        told = f"{len(useful)} rejected messages were retried: {freed} tasks freed, {made} made"
        store.audit.write("broker", told, who=who(), reason=reason, messages=picked[:100])
        store.workers.wake()
    useless = [{"id": message, "why": why} for message, why in found.items() if isinstance(why, str)]
    said: list[str | Table] = [f"{len(useful):,} messages were of use: {freed:,} tasks freed, {made:,} tasks made"]
    if useless:
        said.append(Table(("id", "why not"), [(row["id"], row["why"]) for row in useless], "Of no use"))
    return Answer(facts | {"useless": useless}, said, FAILED if useless else 0)


@register
@command(name="purge", destroys=True)
@IDS
@click.option("--all", "everything", is_flag=True, help="Every message, also those that were not reviewed.")
def purge(ids: tuple[int, ...], everything: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Delete rejected messages: those named, or all that were reviewed, or (--all) every one.

    Example:  embedq broker rejected purge --yes --reason "looked at in May"
    """
    with opened() as store:
        if ids and everything:
            raise InputError("ids and --all name different messages", hint="give one of them")
        picked = store.rejected.picked(ids or None, everything=everything, reviewed=True)
        _all_known(ids, picked)
        if dry_run:
            return Answer(
                {"would_purge": len(picked)}, [f"would delete {len(picked):,} messages; nothing was done (--dry-run)"]
            )
        confirm(f"Delete {len(picked):,} rejected messages for good?", yes=yes)
        done = store.rejected.purge(picked)
        store.audit.write("broker", f"{done} rejected messages were purged", who=who(), reason=reason, messages=picked[:100])
    return Answer({"purged": done}, [f"{done:,} messages are deleted"])


def _picked(store: Store, ids: Sequence[int], everything: bool) -> list[int]:
    """Raises InputError when nothing is named, NotFound when a named message does not exist."""
    if bool(ids) == everything:
        raise InputError("which messages?", hint="name ids of `embedq broker rejected list`, or --all")
    picked = store.rejected.picked(None if everything else ids)
    _all_known(ids, picked)
    return picked


def _all_known(ids: Sequence[int], picked: Sequence[int]) -> None:
    missing = sorted(set(ids) - set(picked))
    if missing:
        raise _unknown(missing)


def _unknown(ids: Sequence[int]) -> NotFound:
    listed = ", ".join(map(str, ids[:10]))
    return NotFound(f"no rejected message has the id {listed}", hint="`embedq broker rejected list --all` shows them")
