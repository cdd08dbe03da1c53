"""`embedq model …`: build another model beside the active one, switch to it, switch back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .. import wiring
from ..client.judged_search import Ranking, Run
from ..decide.preparation import EXAMPLE, KNOWN, for_register, of_register, told, with_prefixes
from ..decide.ranking import overlap
from ..decide.scores import background
from ..engine.chunking import ChunkSize
from ..errors import ConfigError, InputError
from ..model import STORAGES, Model, Role
from ..settings import Settings, from_env
from ..store import Store
from ..store.models import Progress
from .fences import opened
from .voice import NOT_WELL, Answer, Table, command, confirm, lasting, tell, who

BYTES_PER_TOKEN = 4
SAMPLE = 20
JUDGED = click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), help="Judged questions (`embedq quality add`)."
)


@click.group()
def model() -> None:
    """Build a model beside the active one, compare, switch, switch back, drop."""


def register(made: click.Command) -> click.Command:
    model.add_command(made)
    return made


@register
@command(name="list")
def list_() -> Answer:
    """The registered models: which one search follows, and which are kept in step with edits.

    Example:  embedq model list
    """
    with opened() as store:
        rows = store.models.all()
    columns = ("id", "provider", "name", "dimensions", "storage")
    cells = [(*(r[name] for name in columns), _role(r), r["kept_in_step"], r["created_at"], _inputs(r)) for r in rows]
    return Answer(rows, [Table((*columns, "role", "kept in step", "registered", "inputs"), cells)])


def _inputs(row: dict[str, Any]) -> str:
    return told(of_register(row["preparation"])) or "as the text is"


def _role(row: dict[str, Any]) -> str:
    return "active" if row["active"] else "previous" if row["previous"] else ""


@register
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

    Prefixes and chunks are part of a model. With others than the registered one of that name has, it is another model: NAME#2.

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


@register
@command(name="build", changes=True)
@click.argument("key", metavar="MODEL")
@click.option("--rate", type=click.FloatRange(0.01, 100_000), metavar="N", help="At most N tasks due a second.")
@click.option("--dry-run", is_flag=True, help="Say what would be embedded, and what it would cost; do nothing.")
def build(key: str, rate: float | None, dry_run: bool, reason: str, yes: bool) -> Answer:
    """Embed every article with this model too, at low priority; from now on edits reach both. Run again, it goes on.

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


@register
@command(name="scores")
@click.argument("key", required=False, metavar="[MODEL]")
@click.option("--samples", default=300, show_default=True, type=click.IntRange(20, 2000), help="Stored vectors to compare.")
def scores(key: str | None, samples: int) -> Answer:
    """What a model's scores mean: how near texts are that have nothing to do with each other, and so which --min-score leaves them out.

    Example:  embedq model scores
    """
    with opened() as store:
        chosen = store.models.named(key) if key else store.models.active()
        if chosen is None:
            raise InputError("no model is active", hint="name one: `embedq model list`", field="model")
        found = background(store.search.sampled(chosen, samples))
    return Answer(
        {"model": str(chosen)} | found._asdict(),
        [
            f"{chosen}: of {found.pairs:,} pairs of texts taken at random half are below {found.median:.2f}, 95 % below {found.most_95:.2f},"
            f" 99 % below {found.most_99:.2f}",
            f"--min-score {found.most_99:.2f} leaves out what is no nearer than chance; a higher one leaves out more of what fits",
        ],
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


@register
@command(name="status")
@click.argument("key", required=False, metavar="[MODEL]")
def status(key: str | None) -> Answer:
    """How far each model, or one, is: complete, missing, behind, rate, time left, size.

    Example:  embedq model status
    """
    with opened() as store:
        chosen = [store.models.named(key)] if key else list(store.models.by_id().values())
        found = [(each, store.models.progress(each)) for each in chosen]
    data = [{"id": each.id, "model": str(each)} | shown(progress) for each, progress in found]
    cells = [
        (
            each.id,
            str(each),
            f"{p.complete:,} of {p.articles:,}",
            p.missing,
            p.behind,
            p.open,
            p.failed,
            f"{p.rate_per_s:.1f}/s",
            lasting(p.eta_s) if p.open else "-",
            f"{p.bytes / 1e6:,.1f} MB",
        )
        for each, p in found
    ]
    return Answer(
        data, [Table(("id", "model", "complete", "missing", "behind", "open", "failed", "rate", "left", "size"), cells)]
    )


def shown(progress: Progress) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(progress) | {"eta_s": progress.eta_s, "lacks": progress.lacks()}


@register
@command(name="compare")
@click.argument("key", metavar="MODEL")
@click.argument("queries", nargs=-1)
@click.option("--with", "other", metavar="MODEL", help="Compare with this one; default: the active model.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 100), help="Results of each query.")
@JUDGED
def compare(key: str, queries: tuple[str, ...], other: str | None, k: int, file: Path | None) -> Answer:
    """How much of the first K results two models share, query by query; without queries, for titles of 20 articles.

    With judged questions (`embedq quality add`): how well each answers them, and which are won and lost.

    Example:  embedq model compare 2 "compress a file" "parse arguments"
    Example:  embedq model compare 2 --file questions.jsonl
    """
    settings = from_env(os.environ)
    with closing(wiring.store(settings)) as store:
        one = store.models.named(key)
        two = store.models.named(other) if other else store.models.active()
        if two is None or two.id == one.id:
            raise InputError("there is nothing to compare it with", hint="name another model by --with")
        if file is not None:
            return _judged(settings, store, [two, one], file)[1]
        asked = list(queries) or store.models.sample_titles(SAMPLE)
        ranked = [_ranked(settings, store, each, asked, k) for each in (one, two)]
    shares = [overlap(first, second, k) for first, second in zip(*ranked, strict=True)]
    mean = sum(shares) / len(shares) if shares else 1.0
    found = zip(asked, shares, *ranked, strict=True)
    by_query = [{"query": query, "overlap": share, str(one): first, str(two): second} for query, share, first, second in found]
    data = {"models": [str(one), str(two)], "k": k, "overlap": mean, "queries": by_query}
    said: list[str | Table] = [Table(("query", "shared"), [(q[:80], f"{s:.0%}") for q, s in zip(asked, shares, strict=True)])]
    return Answer(data, [*said, f"{one} and {two} share {mean:.0%} of the first {k} over {len(asked)} queries"])


def _judged(settings: Settings, store: Store, models: list[Model], file: Path) -> tuple[list[Run], Answer]:
    from .quality import changes_tables, data_of, measured, questions, scores_table

    asked = questions(file)
    runs = measured(settings, store, models, asked, [Ranking.MEANING])
    return runs, Answer(data_of(runs, asked), [scores_table(runs), *changes_tables(runs, asked)])


def _warn_if_worse(settings: Settings, store: Store, before: Model | None, chosen: Model, file: Path) -> None:
    """On stderr. A warning, not a refusal: only the operator can tell whether the questions represent real ones."""
    if before is None or before.id == chosen.id:
        return
    (old, new), _ = _judged(settings, store, [before, chosen], file)
    if new.score.mrr < old.score.mrr:
        tell(
            f"warning: {chosen} answers the questions of {file} worse: MRR {new.score.mrr:.3f}, {before} {old.score.mrr:.3f}"
            f" (`embedq model compare {before.id} --file {file}` shows which; `embedq model rollback` goes back)"
        )


def _ranked(settings: Settings, store: Store, chosen: Model, queries: list[str], k: int) -> list[list[str]]:
    """Article ids by query. Each model's vectors are compared with its own query vectors only."""
    with closing(wiring.provider_factory(settings, Role.QUERY)(chosen)) as provider:
        vectors = provider.embed(queries).vectors
    return [[row["article_id"] for row in store.search.nearest(chosen, vector, k)] for vector in vectors]


@register
@command(name="activate", changes=True)
@click.argument("key", metavar="MODEL")
@click.option("--force", is_flag=True, help="Although search would not find some articles until they are embedded.")
@JUDGED
def activate(key: str, force: bool, file: Path | None, reason: str, yes: bool) -> Answer:
    """Let search follow this model, from one moment to the next. Refused while search would lose articles.

    The model before it is kept in step until it is dropped: `embedq model rollback` goes back at once.

    Example:  embedq model activate 2 --reason "better recall on German texts"
    """
    with opened() as store:
        chosen, started = store.models.named(key), time.monotonic()
        before = store.models.active()
        if file is not None:
            _warn_if_worse(from_env(os.environ), store, before, chosen, file)
        progress = store.models.activate(chosen, who=who(), why=reason, force=force)
        return _switched(store, chosen, before, progress, time.monotonic() - started)


@register
@command(name="rollback", changes=True)
def rollback(reason: str, yes: bool) -> Answer:
    """Let search follow the model before the active one again, at once: it was kept in step with every edit.

    Example:  embedq model rollback --reason "worse on short titles"
    """
    with opened() as store:
        before, started = store.models.active(), time.monotonic()
        chosen, progress = store.models.rollback(who=who(), why=reason)
        return _switched(store, chosen, before, progress, time.monotonic() - started)


def _switched(store: Store, now: Model, before: Model | None, progress: Progress, seconds: float) -> Answer:
    hurried = store.models.hurry(now)
    data = {"active": str(now), "before": str(before), "seconds": seconds, "hurried": hurried} | shown(progress)
    said: list[str | Table] = [f"search follows {now} (before: {before}); it took {lasting(seconds)}"]
    if progress.missing or progress.behind:
        said.append(f"{progress.missing:,} articles have no vector of it yet, {progress.behind:,} one of an older text")
    return Answer(data, [*said, "next: embedq verify; back: embedq model rollback"], NOT_WELL if progress.missing else 0)


@register
@command(name="accept", changes=True)
@click.argument("key", metavar="MODEL")
def accept(key: str, reason: str, yes: bool) -> Answer:
    """Take the vectors that this model makes now for its own: workers store for it again. After you have verified that they can be compared.

    Vectors are never compared with those of another model: `embedq provider check` shows what it makes of texts that are stored.

    Example:  embedq model accept 1 --reason "the same weights in another precision; recall measured"
    """
    from ..decide.sameness import cosine
    from ..engine.requests import CANARY

    settings = from_env(os.environ)
    with closing(wiring.store(settings)) as store, closing(wiring.provider_factory(settings)(store.models.named(key))) as asked:
        chosen, kept = asked.model, store.canaries.of(asked.model.id)
        vector = asked.embed([CANARY]).vectors[0]
        found = None if kept is None or kept.vector is None else cosine(kept.vector, vector)
        store.canaries.accept(chosen.id, vector)
        words = f"the vectors of {chosen} are accepted as they are now" + (
            "" if found is None else f" (cosine {found:.3f} with before)"
        )
        store.audit.write("model", f"accept: {words}", who=who(), reason=reason, model=chosen.id, cosine=found)
    return Answer({"model": str(chosen), "cosine": found}, [words, "next: embedq provider check"])


@register
@command(name="drop", destroys=True)
@click.argument("key", metavar="MODEL")
def drop(key: str, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Forget a model with its vectors, and free their space. The active one is refused. There is no way back but building it anew.

    Example:  embedq model drop 1 --yes --reason "two weeks without complaint"
    """
    with opened() as store:
        chosen = store.models.named(key)
        active = store.models.active()
        if active is not None and active.id == chosen.id:
            raise InputError(f"{chosen} is active", hint="`embedq model activate` another one first")
        progress = store.models.progress(chosen)
        told = f"{progress.complete:,} articles' vectors ({progress.bytes / 1e6:,.1f} MB) and {progress.open:,} open tasks of {chosen}"
        if dry_run:
            return Answer({"would_drop": str(chosen)} | shown(progress), [f"would drop {told}"])
        confirm(f"Drop {told}?", yes=yes)
        freed = store.models.drop(chosen, who=who(), why=reason)
    return Answer(
        {"dropped": str(chosen)} | freed,
        [f"dropped {chosen}: {freed['bytes'] / 1e6:,.1f} MB, {freed['tasks']:,} tasks cancelled"],
    )
