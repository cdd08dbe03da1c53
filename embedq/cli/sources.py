"""`embedq attach`, `embedq detach` and `embedq source`: tables of the user's whose rows are kept embedded."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import click

from ..decide.sources import SourceState, source_of
from ..model import Source, SourceDraft
from ..operations import sources
from ..operations.sources import AttachEstimate
from ..settings import from_env
from ..store import Store
from .fences import opened
from .tasks import PRIORITY
from .voice import NOT_WELL, Answer, Table, command, confirm, lasting, who


def _columns(given: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",") if part.strip()) if given else ()


@command(name="attach", destroys=True)
@click.argument("table")
@click.option("--title", metavar="COL|EXPR", help="The text that is embedded first.")
@click.option("--content", metavar="COL[,COL…]|EXPR", help="The text that is embedded after the title.")
@click.option("--where", metavar="COND", help="Only rows for which this is true.")
@click.option("--tenant", metavar="COL|EXPR", help="The row's tenant; default: the tenant `default`.")
@click.option("--metadata", metavar="COL[,COL…]", help="Columns that `search --filter` can ask for.")
@click.option("--key", metavar="COL[,COL…]", help="Columns that identify a row; default: the primary key.")
@click.option("--name", help="The source's name; default: the table's.")
@click.option("--priority", type=PRIORITY, default="normal", show_default=True, help="Of the tasks that writes make.")
@click.option("--no-wait", is_flag=True, help="Leave the existing rows to the workers.")
def attach(
    table: str, metadata: str | None, key: str | None, no_wait: bool, reason: str, yes: bool, dry_run: bool, **given: Any
) -> Answer:
    """Keep the rows of one of your tables embedded, whichever program writes it. Its columns and rows do not change; it gets four triggers.

    Existing rows are taken in in batches, in the order of the key, while the application goes on writing. Interrupted, the workers
    go on with them; `embedq source status` follows it. With the --name of an attached source its definition changes.

    Example:  embedq attach blog.posts --title title --content body --where published --dry-run
    """
    draft = SourceDraft(table, metadata=_columns(metadata), key=_columns(key), **given)
    with opened() as store:
        expected = sources.estimate(store, from_env(os.environ).prices, draft)
        if dry_run:
            return Answer(asdict(expected) | {"model": str(expected.model)}, [_told(expected), "nothing was done (--dry-run)"])
        if expected.rows:
            confirm(f"Embed about {expected.rows:,} rows of {expected.table}, about {expected.tokens:,} tokens?", yes=yes)
        name = sources.attach(store, draft, who(), reason)
        outcome = None if no_wait else _filled(store, name, expected.rows)
        counts = store.sources.counts(name)
    data = {"source": name, "table": expected.table, "key": expected.key, "rows": outcome, "articles": counts}
    return Answer(data, _attached(expected, name, outcome))


def _filled(store: Store, name: str, rows: int) -> dict[str, Any]:
    from .trying import bar

    with bar("rows", rows) as show:
        return sources.compare(store, name, show, anew=False)


def _attached(expected: AttachEstimate, name: str, outcome: dict[str, Any] | None) -> list[str | Table]:
    said: list[str | Table] = [f"{expected.table} is the source {name}: every write to it is followed from now on"]
    if outcome is None:
        return [*said, f"its about {expected.rows:,} rows are taken in by the workers: `embedq source status {name}`"]
    said.append(f"{outcome['written']:,} of {outcome['seen']:,} rows were taken in; `embedq status` shows them being embedded")
    if outcome["unreadable"]:
        said.append(f"{outcome['unreadable']:,} rows cannot be read: {outcome['example']}")
    return [*said, f'next: embedq search "…" --source {name}']


def _told(expected: AttachEstimate) -> Table:
    price = "unknown: set EMBEDDING_PRICES" if expected.cost is None else f"{expected.cost:,.2f}"
    time = "unknown: nothing was embedded in the last ten minutes" if expected.seconds is None else lasting(expected.seconds)
    rows = [
        ("source", expected.name),
        ("key", ", ".join(expected.key)),
        ("rows, about", expected.rows),
        ("tokens, about", expected.tokens),
        ("cost", price),
        ("time, at the present rate", time),
        ("disk, about", f"{expected.disk_bytes / 2**20:,.1f} MB"),
        ("locks", expected.locks),
    ]
    return Table((expected.table, str(expected.model)), rows)


@command(name="detach", destroys=True)
@click.argument("name")
@click.option("--keep-vectors", is_flag=True, help="Keep the vectors, for attaching a table under this name again.")
def detach(name: str, keep_vectors: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """End a source: its triggers and its view go, then its tasks and vectors, in short transactions. The table stays as it is.

    Interrupted, run it again. It takes the same lock as `attach`, for as short a time.

    Example:  embedq detach posts --dry-run
    """
    with opened() as store:
        size = store.sources.size(name)
        if not size["articles"]:
            store.sources.one(name)
        told = f"{size['articles']:,} rows that are embedded or wait, {size['open_tasks']:,} open tasks"
        if dry_run:
            return Answer({"would_detach": name, **size}, [f"{name}: {told}", "nothing was done (--dry-run)"])
        confirm(f"Detach {name} ({told})?", yes=yes)
        removed = sources.detach(store, name, who(), reason, keep_vectors=keep_vectors)
    return Answer(
        {"detached": name, "removed": removed, "kept_vectors": keep_vectors},
        [f"{name} is detached, {removed:,} rows are kept no longer"],
    )


@click.group()
def source() -> None:
    """Your tables whose rows are kept embedded (`embedq attach`)."""


@command(name="list")
def list_() -> Answer:
    """Every source: its table, key and state.

    Example:  embedq source list
    """
    with opened() as store:
        found = [source_of(row) for row in store.sources.all()]
    rows = [(one.name, one.table, ", ".join(one.key), one.state, one.about_rows, one.compared_at) for one in found]
    said: list[str | Table] = (
        [Table(("source", "table", "key", "state", "rows, about", "compared"), rows)]
        if rows
        else ["there is no source: `embedq attach`"]
    )
    return Answer([asdict(one) for one in found], said)


@command(name="status")
@click.argument("name", required=False)
def status(name: str | None) -> Answer:
    """Progress of a source, or of all: its rows by state, the comparison with its table, and what is wrong. Exit code 3 when it is behind.

    Example:  embedq source status posts
    """
    with opened() as store:
        found = [source_of(row) for row in ([store.sources.one(name)] if name else store.sources.all())]
        counts = {one.name: store.sources.counts(one.name) for one in found}
        rate = store.overview.settled(60.0)["completed"] / 60.0
    data = [asdict(one) | {"articles": counts[one.name]} | _progress(one, counts[one.name], rate) for one in found]
    said: list[str | Table] = []
    for one, facts in zip(found, data, strict=True):
        said += _status_told(one, facts)
    wrong = any(one.state in (SourceState.BEHIND, SourceState.ORPHANED) for one in found)
    return Answer(data, said or ["there is no source: `embedq attach`"], NOT_WELL if wrong else 0)


def _progress(one: Source, counts: dict[str, int], rate: float) -> dict[str, Any]:
    """`eta_s`: until open tasks are done at the rate of the last minute; None if none was done in it."""
    waiting = counts.get("queued", 0) + counts.get("processing", 0)
    return {"waiting": waiting, "rate_per_s": rate, "eta_s": waiting / rate if rate and waiting else None}


def _status_told(one: Source, facts: dict[str, Any]) -> list[str | Table]:
    rows: list[tuple[str, Any]] = [
        ("table", one.table),
        ("key", ", ".join(one.key)),
        ("state", one.state),
        ("rows of the table, about", one.about_rows),
    ]
    rows += [(f"rows {state}", number) for state, number in facts["articles"].items()]
    rows += [("compared with the table", one.compared_at or "not to the end yet")]
    rows += [("of which looked at", one.seen)] if one.seen is not None else []
    rows += [("embedded in about", lasting(facts["eta_s"]))] if facts["eta_s"] else []
    said: list[str | Table] = [Table(("source", one.name), rows)]
    return said + ([f"problem: {one.problem}", f"next: {one.next}"] if one.problem else [])


BECAME = {
    "taken": "vectors were taken over",
    "had": "rows are embedded already",
    "behind": "rows have another text than what is kept of them: `embedq reconcile --source NAME`, then again",
    "none": "rows have no vector in that column",
    "unusable": "rows hold something that is no vector, NaN or an infinity",
    "zero": "vectors are zero, and have no direction",
    "dimensions": "vectors have another number of dimensions than the model",
}


@command(name="import-vectors", changes=True)
@click.argument("name")
@click.option(
    "--from-column",
    "column",
    required=True,
    metavar="COL",
    help="Of the source's table: vector, halfvec or an array of numbers.",
)
@click.option(
    "--model", "key", required=True, metavar="MODEL", help="That made them, of what the source embeds; see `embedq model list`."
)
def import_vectors(name: str, column: str, key: str, reason: str, yes: bool) -> Answer:
    """Import vectors that the table has already: one for each row, of its whole text, so that they are not paid for again.

    Vectors that cannot be used are counted by cause, and the rows are embedded. Run it right after `attach`, before workers begin, or with them
    stopped (`embedq stop`).

    Example:  embedq source import-vectors posts --from-column embedding --model openai/text-embedding-3-small
    """
    with opened() as store:
        model = store.models.named(key)
        rows = store.sources.one(name)["about_rows"] or 0
        confirm(f"Take over the vectors in {column} of about {rows:,} rows as those of {model}?", yes=yes)
        became = sources.import_vectors(store, name, column, model, who(), reason)
    data = {"source": name, "column": column, "model": str(model), "became": became}
    told: list[str | Table] = [
        f"{became[what]:,} {words.replace('NAME', name)}" for what, words in BECAME.items() if what in became
    ]
    return Answer(data, told or ["the table has no rows that are embedded"])


source.add_command(import_vectors)
source.add_command(list_)
source.add_command(status)
