"""`embedq provider check`: reachability, model, speed and limits of the provider."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from .. import wiring
from ..decide.circuit_breaker import Circuit, circuit
from ..decide.prices import named_for, number_for
from ..decide.sameness import LOOKS, is_same, nearest
from ..engine.requests import CANARY
from ..engine.worker import ASKS, FAULT
from ..errors import ConfigError, EmbedqError, StoreUnavailable
from ..model import Model
from ..providers import Provider
from ..settings import Settings, from_env
from ..store import Store
from .voice import NOT_WELL, Answer, Table, command

TEXTS = ("embedq asks whether this provider is well", "a second text", "and a third, to see their order")
SAME_ENOUGH = 1e-3
SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Looked:
    """One check; `next_step` is empty when it passed."""

    what: str
    found: str
    next_step: str = ""


@click.group()
def provider() -> None:
    """Check the provider."""


def register(made: click.Command) -> click.Command:
    provider.add_command(made)
    return made


@register
@command(name="check")
@click.option(
    "--model", "key", metavar="MODEL", help="A registered model; default: the active one, without a database the settings'."
)
def check(key: str | None) -> Answer:
    """Reachability, credentials, model, dimensions, order, latency, limits, the canary and stored vectors, by up to nine requests. Each failure
    with its next step.

    Example:  embedq provider check
    """
    settings = from_env(os.environ)
    chosen, known = _chosen(settings, key)
    asked = _asked(settings, chosen)
    accepted = not any(each.next_step for each in asked)
    paused = [_of_workers(each) if accepted and each.next_step else each for each in known]
    looked = [Looked("model", str(chosen)), *_server(settings, chosen), *_workers(settings, chosen), *paused, *asked]
    if not any(each.next_step for each in looked):
        looked += _stored(settings, chosen)
    well = not any(each.next_step for each in looked)
    rows = [(each.what, each.found, each.next_step or "fine") for each in looked]
    data = {
        "model": str(chosen),
        "well": well,
        "checks": [{"what": each.what, "found": each.found, "next": each.next_step} for each in looked],
    }
    return Answer(data, [Table(("", "found", "next"), rows)], 0 if well else NOT_WELL)


def _chosen(settings: Settings, key: str | None) -> tuple[Model, list[Looked]]:
    """The model to test, and the stored state of its provider. Without a database the settings' own model."""
    try:
        with closing(wiring.store(settings)) as store:
            chosen = store.models.named(key) if key else store.models.active() or wiring.wanted_model(settings)
            state = store.providers.state(chosen.provider)
    except (StoreUnavailable, ConfigError) as away:
        if key:
            raise
        return wiring.wanted_model(settings), [Looked("database", f"not asked: {away}")]
    if circuit(state) is Circuit.CLOSED or state is None:
        return chosen, []
    left = f"for {state.left_s:.0f} s more" if state.left_s else "about to be asked again"
    return chosen, [Looked("paused", f"{left}: {state.why}", "it is asked again then by itself")]


def _of_workers(paused: Looked) -> Looked:
    """The provider answers this process although workers had errors: their environment differs, or the provider has recovered."""
    step = "accepted here: when it lasts, the workers have another key or address than this shell; put theirs right and restart them"
    return Looked("workers", f"their last calls were refused; {paused.what} {paused.found}", step)


def _server(settings: Settings, chosen: Model) -> list[Looked]:
    """Which server this environment names, by host and port alone: the rest of an address may hold a secret."""
    host, _, port = wiring.server_of(settings, chosen).rpartition(":")
    return [Looked("server", f"{host}, port {port}, as this environment names it")] if host else []


def _workers(settings: Settings, chosen: Model) -> Iterator[Looked]:
    """What the living workers ask for this model, as each tells with its heartbeat, beside what this process asks; and their last faults."""
    try:
        with closing(wiring.store(settings)) as store:
            said = [(row["name"], row["counters"] or {}) for row in store.workers.all() if row["alive"]]
    except (StoreUnavailable, ConfigError):
        return
    here, groups = wiring.asks(settings, chosen), defaultdict[str, list[str]](list)
    for name, words in said:
        groups[words.get(f"{ASKS}{chosen}", "")].append(name)
    for there, names in sorted(groups.items()):
        if there:
            step = (
                ""
                if there == here
                else f"this shell asks {here}: give both the same address and key, and restart what was wrong"
            )
            yield Looked("workers ask", f"{there}: {', '.join(sorted(names))}", step)
    for name, words in said:
        if fault := words.get(f"{FAULT}{chosen.provider}"):
            yield Looked("last fault", f"of {name}: {fault}", "")


def _asked(settings: Settings, chosen: Model) -> list[Looked]:
    try:
        with closing(wiring.provider_factory(settings)(chosen)) as asked:
            return [*_limits(settings, asked), *_answers(asked)]
    except EmbedqError as fault:
        return [Looked("answer", str(fault), fault.hint)]


def _limits(settings: Settings, asked: Provider) -> list[Looked]:
    limits, model = asked.limits, asked.model
    price = named_for(settings.prices, model)
    requests, tokens = (int(number_for(raw, model)) for raw in (settings.requests_per_minute, settings.tokens_per_minute))
    return [
        Looked(
            "one request",
            f"{limits.max_inputs:,} inputs, {limits.max_tokens:,} tokens; an input {limits.max_input_tokens:,} tokens (estimated)",
        ),
        Looked(
            "budget",
            f"{requests or 'any number of'} requests and {tokens or 'any number of'} tokens a minute, for all processes",
        ),
        Looked(
            "price", "unknown: set EMBEDDING_PRICES" if price is None else f"{price:g} for a million tokens (EMBEDDING_PRICES)"
        ),
    ]


def _answers(asked: Provider) -> list[Looked]:
    """Raises the provider's fault. Three requests: the first opens the connection, the second shows the latency, the third the order."""
    first_s, _ = _timed(lambda: asked.embed(TEXTS[:1]))
    again_s, alone = _timed(lambda: asked.embed(TEXTS[:1]))
    _, together = _timed(lambda: asked.embed(TEXTS))
    same = float(abs(alone.vectors[0] - together.vectors[0]).max()) < SAME_ENOUGH
    wrong = "" if same else "the order of its answers cannot be trusted: use another version of the server"
    return [
        Looked("answer", "reachable, the credentials and the model's name are accepted"),
        Looked("dimensions", str(alone.vectors.shape[1])),
        Looked(
            "order",
            "the same text has the same vector, alone and in a batch" if same else "a text's vector changes in a batch",
            wrong,
        ),
        Looked("latency", f"{again_s * 1000:,.0f} ms ({first_s * 1000:,.0f} ms the first time)"),
    ]


def _stored(settings: Settings, chosen: Model) -> list[Looked]:
    """Whether texts that were embedded before have the same vectors today: a server may have another model under the same name."""
    try:
        with closing(wiring.store(settings)) as store, closing(wiring.provider_factory(settings)(chosen)) as asked:
            if not chosen.id:
                return [Looked("stored vectors", "none yet to compare with")]
            return [*_canary(store, asked), _samples(store, asked)]
    except (StoreUnavailable, ConfigError):
        return []
    except EmbedqError as fault:
        return [Looked("stored vectors", str(fault), fault.hint)]


def _samples(store: Store, asked: Provider) -> Looked:
    from ..providers.answers import similar

    samples = store.vectors.samples(asked.model.id, SAMPLES)
    vectors = [asked.embed([sample.text]).vectors[0] for sample in samples]
    if not samples:
        return Looked("stored vectors", "none yet to compare with")
    others = sum(not similar(vector, sample.vector) for vector, sample in zip(vectors, samples, strict=True))
    if not others:
        return Looked("stored vectors", f"{len(samples)} texts have the same vectors as when they were stored")
    remedy = "bring the former model back; or stop the workers and build the new one under another name: `embedq model add`"
    return Looked(
        "stored vectors", f"{others} of {len(samples)} texts have other vectors than those stored: it is another model", remedy
    )


def _canary(store: Store, asked: Provider) -> Iterator[Looked]:
    """What the register has of this model's canary, beside what this process is answered. Nothing is changed: workers decide by what they see."""
    kept = store.canaries.of(asked.model.id)
    if kept is None or kept.vector is None:
        yield Looked("canary", "not kept yet: the first worker that asks this model keeps it")
    else:
        seen = [asked.embed([CANARY]).vectors[0] for _ in range(LOOKS)]
        found = f"cosine {nearest(kept.vector, seen):.4f} with the vector kept on {kept.made_at:%Y-%m-%d}"
        if is_same(kept.vector, seen):
            yield Looked("canary", found)
        else:
            step = f"bring the former model back, or `embedq model add` under another name; `embedq model accept {asked.model.id}` when it is the same"
            yield Looked("canary", f"{found}: it is another model", step)
    if kept is not None and kept.swapped is not None:
        yield Looked("stopped", kept.swapped.told(), kept.swapped.next())


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    started = time.monotonic()
    answer = act()
    return time.monotonic() - started, answer
