"""`embedq model add` and `embedq model build`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import click

from .. import wiring
from ..decide.preparation import EXAMPLE, KNOWN, for_register, told, with_prefixes
from ..engine.chunking import ChunkSize
from ..errors import ConfigError, InputError
from ..model import STORAGES, Model
from ..settings import Settings, from_env
from ..store import Store
from .voice import Answer, command, who

BYTES_PER_TOKEN = 4


@command(name="add", changes=True)
@click.argument("provider")
@click.argument("name")
@click.argument("dimensions", type=click.IntRange(1, 16_000))
@click.option(
    "--storage",
    type=click.Choice(STORAGES),
    default="vector",
    show_default=True,
    help="Of its vectors: vector, 4 bytes a number, or halfvec, 2 bytes.",
)
@click.option(
    "--prefixes",
    metavar="JSON",
    help=f"What the model wants before texts: {EXAMPLE}, {{}} for nothing, or `{KNOWN}`, which is the default.",
)
@click.option(
    "--chunk-tokens", type=click.IntRange(1), metavar="N", help="Size of its chunks. Default: EMBEDDING_CHUNK_TOKENS."
)
@click.option("--chunk-overlap", type=click.IntRange(0), metavar="N", help="How much of one is repeated in the next.")
@click.option(
    "--headings/--no-headings", default=None, help="Whether each chunk is embedded with the headings above it. Default: no."
)
def add(
    provider: str,
    name: str,
    dimensions: int,
    prefixes: str | None,
    chunk_tokens: int | None,
    chunk_overlap: int | None,
    headings: bool | None,
    storage: str,
    reason: str,
    yes: bool,
) -> Answer:
    """Register a model. Nothing is embedded, and nothing is kept in step, before `embedq model build`.

    Prefixes and chunks are part of a model. With other prefixes or chunks than the registered model of that name, it becomes another model: NAME#2.

    Example:  embedq model add ollama nomic-embed-text 768
    Example:  embedq model add openai my-e5 1024 --prefixes '{"document": "passage: ", "query": "query: "}'
    Example:  embedq model add openai text-embedding-3-small 1536 --storage halfvec
    """
    from ..providers.registry import known_model, known_providers

    if provider not in known_providers():
        raise ConfigError(f"the provider {provider!r} is unknown", hint=f"one of: {', '.join(known_providers())}")
    full_name, _ = known_model(provider, name) or (name, dimensions)
    settings, said = from_env(os.environ), (prefixes, chunk_tokens, chunk_overlap, headings)
    with closing(wiring.store(settings)) as store:
        before = store.models.by_id()
        wanted = _wanted(settings, before.values(), Model(provider, full_name, dimensions, storage=storage), *said)
        added = store.models.add(wanted, kept_in_step=False)
        news = added.id not in before
        if news:
            store.audit.write("model", f"add: {added}", who=who(), reason=reason, model=added.id)
    words = f"registered {added} as {added.id}" if news else f"{added} is registered already, as {added.id}"
    if inputs := told(added.preparation):
        words += f" ({inputs})"
    if added.storage != storage:
        words += f", and stays stored as {added.storage}"
    preparation = for_register(added.preparation)
    return Answer(
        {"id": added.id, "model": str(added), "storage": added.storage, "new": news, "preparation": preparation},
        [words, f"next: embedq model build {added.id}"],
    )


def _wanted(
    settings: Settings,
    known: Iterable[Model],
    named: Model,
    prefixes: str | None,
    tokens: int | None,
    overlap: int | None,
    headings: bool | None,
) -> Model:
    """The registered one of this name unless something else is said of its inputs. Raises InputError for prefixes that are none."""
    registered = next((each for each in known if str(each) == str(named)), None)
    if registered is not None and all(said is None for said in (prefixes, tokens, overlap, headings)):
        return registered
    if headings is None:
        headings = registered is not None and registered.preparation.headings
    usual = wiring.chunk_size(settings, registered or named)
    size = ChunkSize(usual.tokens if tokens is None else tokens, usual.overlap_tokens if overlap is None else overlap)
    try:
        made = wiring.prepared_model(settings, named, prefixes or "", size, headings=headings)
    except ValueError as wrong:
        raise InputError(f"--prefixes {wrong}", hint=f"for example: {EXAMPLE}", field="prefixes") from None
    if registered is None or prefixes is not None:
        return made
    return replace(made, preparation=with_prefixes(made.preparation, registered.preparation))


@command(name="build", changes=True)
@click.argument("key", metavar="MODEL")
@click.option("--rate", type=click.FloatRange(0.01, 100_000), metavar="N", help="At most N tasks due a second.")
@click.option("--dry-run", is_flag=True, help="Say what would be embedded, and what it would cost; do nothing.")
def build(key: str, rate: float | None, dry_run: bool, reason: str, yes: bool) -> Answer:
    """Embed every article with this model too, at low priority; from now on edits reach both. If interrupted, run it again.

    The provider is asked once first: a model that does not answer is not built.

    Example:  embedq model build 2 --rate 50
    """
    settings = from_env(os.environ)
    with closing(wiring.store(settings)) as store:
        chosen = store.models.named(key)
        facts = store.models.to_build(chosen)
        estimate = _estimate(settings, chosen, facts)
        if dry_run:
            return Answer(
                estimate,
                [
                    f"would embed {estimate['articles']:,} articles, about {estimate['tokens']:,} tokens, cost {_price(estimate['cost'])}"
                ],
            )
        ask_once(settings, chosen)
        made = _built(store, chosen, rate, int(facts["articles"]))
        store.audit.write(
            "model", f"build: {made} tasks for {chosen}", who=who(), reason=reason, model=chosen.id, tasks=made, rate=rate
        )
    return Answer(
        estimate | {"made": made}, [f"{made:,} tasks were made at low priority", f"next: embedq model status {chosen.id}"]
    )


def _built(store: Store, chosen: Model, rate: float | None, total: int) -> int:
    from .trying import bar

    with bar("tasks", total) as show:
        return store.models.build(chosen, rate=rate, tell=show)


def _price(cost: float | None) -> str:
    return "unknown: set EMBEDDING_PRICES" if cost is None else f"{cost:,.2f}"


def _estimate(settings: Settings, chosen: Model, facts: dict[str, Any]) -> dict[str, Any]:
    from ..decide.prices import cost, named_for

    tokens, price = int(facts["bytes"]) // BYTES_PER_TOKEN, named_for(settings.prices, chosen)
    return {
        "model": str(chosen),
        "articles": facts["articles"],
        "tokens": tokens,
        "cost": None if price is None else cost(tokens, price),
    }


def ask_once(settings: Settings, chosen: Model) -> None:
    """Raises the provider's fault when this model does not answer with vectors of its dimensions."""
    with closing(wiring.provider_factory(settings)(chosen)) as provider:
        provider.embed(["embedq asks whether this model answers"])
