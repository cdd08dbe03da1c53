"""`embedq index …`: the index of the active model's vectors, and the one for ranking by words."""

from __future__ import annotations

from typing import Any

import click

from ..errors import NotFound
from ..model import Model
from ..store import Store
from ..store.index import Index, build_words, drop_words, words_state
from .fences import opened
from .voice import NOT_WELL, Answer, Table, command, confirm, lasting, tell, who

WELL_FROM = 0.95
MANY_OPEN = 1000
ADVICE = (
    "what raises it: a larger K (the index then looks at more candidates), or an index built anew after many edits; memory makes the build faster, "
    "not the index better; without an index every search is exact",
    "next: embedq index check -k 50; embedq index drop --yes, then embedq index build",
)
MODEL = click.option("--model", "key", metavar="MODEL", help="Default: the active model.")
WORDS = click.option("--words", is_flag=True, help="The index for ranking by words (search --hybrid) instead.")


@click.group()
def index() -> None:
    """Build, check and drop the index of the vectors. Without one every search is exact, and reads every vector."""


def register(made: click.Command) -> click.Command:
    index.add_command(made)
    return made


def chosen(store: Store, key: str | None) -> Model:
    """Raises NotFound while no model is active."""
    found = store.models.named(key) if key else store.models.active()
    if found is None:
        raise NotFound("no model is active", hint="`embedq db upgrade` registers the one that the settings name")
    return found


@register
@command(name="status")
def status() -> Answer:
    """Each model's index: built or not, size, how often it was used; and when to build it.

    Example:  embedq index status
    """
    with opened() as store:
        found = [(model, Index(store.database, model).state()) for model in store.models.by_id().values()]
        words, waiting = words_state(store.database), store.overview.open()
    cells = [
        (
            str(model),
            s["state"] and f"{s['state']} ({s['kind']})",
            s["about_rows"],
            f"{s['bytes'] / 1e6:,.1f} MB",
            f"{s['table_bytes'] / 1e6:,.1f} MB",
            s["scans"],
        )
        for model, s in found
    ]
    cells.append(
        ("words (search --hybrid)", words["state"], words["about_rows"], f"{words['bytes'] / 1e6:,.1f} MB", "", words["scans"])
    )
    said: list[str | Table] = [Table(("of", "index", "rows, about", "index size", "vectors", "scans"), cells)]
    if waiting > MANY_OPEN:
        said.append(
            f"about {waiting:,} tasks are open: an index is built faster after bulk work than fed by it (`embedq wait`, then `index build`)"
        )
    return Answer({"models": [{"model": str(model)} | s for model, s in found], "words": words, "open_tasks": waiting}, said)


@register
@command(name="build", changes=True)
@MODEL
@WORDS
@click.option(
    "--memory",
    type=click.IntRange(16, 1_000_000),
    metavar="MB",
    help="For building. Default: what the graph needs, at most a quarter of the server's effective_cache_size.",
)
@click.option(
    "--bits", is_flag=True, help="Index one bit per number; candidates are compared exactly. For a million vectors and more."
)
def build(key: str | None, words: bool, memory: int | None, bits: bool, reason: str, yes: bool) -> Answer:
    """Build the index while articles are written and searched, with progress. Best after bulk work.

    m, ef_construction and memory are chosen by the number of vectors, and printed with the reason.

    Example:  embedq index build --memory 2000
    """
    with opened() as store, shown() as show:
        if words:
            name, seconds = "words", build_words(store.database, show)
        else:
            found = Index(store.database, chosen(store, key), bits=bits)
            for line in found.plan(memory).why:
                tell(line)
            name, seconds = str(found.model), found.build(memory_mb=memory, tell=show)
        store.audit.write("index", f"build: the index of {name}", who=who(), reason=reason, seconds=seconds)
    return Answer(
        {"index": name, "seconds": seconds},
        [f"the index of {name} is built, in {lasting(seconds)}", "next: embedq index check"],
    )


class shown:
    """A line on stderr for every phase of a build, with its progress in percent."""

    def __init__(self) -> None:
        self.last = ""

    def __enter__(self) -> Any:
        return self._show

    def __exit__(self, *_: object) -> None:
        pass

    def _show(self, progress: dict[str, Any]) -> None:
        total, done = (
            (progress["tuples_total"], progress["tuples_done"])
            if progress["tuples_total"]
            else (progress["blocks_total"], progress["blocks_done"])
        )
        told = progress["phase"] + (f" {10 * (10 * done // total)} %" if total else "")
        if told != self.last:
            self.last = told
            tell(told)


@register
@command(name="drop", destroys=True)
@MODEL
@WORDS
def drop(key: str | None, words: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Drop the index: before bulk work, or to build it anew. Search is exact meanwhile, and slower.

    Example:  embedq index drop --yes
    """
    with opened() as store:
        found = None if words else Index(store.database, chosen(store, key))
        name = str(found.model) if found else "words"
        state = found.state() if found else words_state(store.database)
        if dry_run:
            return Answer(
                {"index": name} | state,
                [f"would drop the index of {name} ({state['bytes'] / 1e6:,.1f} MB, {state['state'] or 'there is none'})"],
            )
        confirm(f"Drop the index of {name}?", yes=yes)
        there = found.drop() if found else drop_words(store.database)
        store.audit.write("index", f"drop: the index of {name}", who=who(), reason=reason)
    return Answer({"index": name, "dropped": there}, [f"the index of {name} is dropped" if there else f"{name} had no index"])


@register
@command(name="check")
@MODEL
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 100))
@click.option("--samples", default=100, show_default=True, type=click.IntRange(1, 10_000), help="Stored vectors to ask with.")
def check(key: str | None, k: int, samples: int) -> Answer:
    """Recall of the index: how many of the exact K nearest it finds. Exit code 3 below 0.95.

    Example:  embedq index check --samples 200
    """
    with opened() as store:
        found = Index(store.database, chosen(store, key)).recall(k, samples)
    well = found["recall"] >= WELL_FROM
    speed = f"{found['index_ms']:.1f} ms a query, exact {found['exact_ms']:.1f} ms"
    said = [f"recall@{k} {found['recall']:.3f} (worst of {found['samples']}: {found['worst']:.2f}); {speed}"]
    if not well:
        said += ADVICE
    return Answer(found | {"well": well}, [*said], 0 if well else NOT_WELL)
