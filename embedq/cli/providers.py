"""`embedq provider check`: does it answer, with what, how fast, and what does it allow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from .. import assemble
from ..decide.prices import number_for
from ..errors import ConfigError, EmbedqError, StoreUnavailable
from ..model import Model
from ..providers import Provider
from ..settings import Settings, from_env
from .voice import NOT_WELL, Answer, Table, command

TEXTS = ("embedq asks whether this provider is well", "a second text", "and a third, to see their order")
SAME_ENOUGH = 1e-3


@dataclass(frozen=True, slots=True)
class Looked:
    """One thing that was looked at; `next_step` is empty when it is well."""

    what: str
    found: str
    next_step: str = ""


@click.group()
def provider() -> None:
    """Look at the service that embeds."""


def register(made: click.Command) -> click.Command:
    provider.add_command(made)
    return made


@register
@command(name="check")
@click.option(
    "--model", "key", metavar="MODEL", help="A registered model; default: the active one, without a database the settings'."
)
def check(key: str | None) -> Answer:
    """Reachability, credentials, model, dimensions, order, latency and limits, by three requests. Each failure with its next step.

    Example:  embedq provider check
    """
    settings = from_env(os.environ)
    chosen, paused = _chosen(settings, key)
    looked = [Looked("model", str(chosen)), *paused, *_asked(settings, chosen)]
    well = not any(each.next_step for each in looked)
    rows = [(each.what, each.found, each.next_step or "fine") for each in looked]
    data = {
        "model": str(chosen),
        "well": well,
        "checks": [{"what": each.what, "found": each.found, "next": each.next_step} for each in looked],
    }
    return Answer(data, [Table(("", "found", "next"), rows)], 0 if well else NOT_WELL)


def _chosen(settings: Settings, key: str | None) -> tuple[Model, list[Looked]]:
    """The model to ask, and what the database knows of its provider. Without a database the settings' own model."""
    try:
        with closing(assemble.store(settings)) as store:
            chosen = store.models.named(key) if key else store.models.active() or assemble.wanted_model(settings)
            state = store.models.state(chosen.provider)
    except (StoreUnavailable, ConfigError) as away:
        if key:
            raise
        return assemble.wanted_model(settings), [Looked("database", f"not asked: {away}")]
    if state and state["pause_s"] > 0:
        return chosen, [
            Looked("paused", f"for {state['pause_s']:.0f} s more: {state['pause_reason']}", "it is asked again then by itself")
        ]
    return chosen, []


def _asked(settings: Settings, chosen: Model) -> list[Looked]:
    try:
        with closing(assemble.provider_factory(settings)(chosen)) as asked:
            return [*_limits(settings, asked), *_answers(asked)]
    except EmbedqError as fault:
        return [Looked("answer", str(fault), fault.hint)]


def _limits(settings: Settings, asked: Provider) -> list[Looked]:
    limits, model = asked.limits, asked.model
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
        Looked("price", f"{number_for(settings.prices, model):g} for a million tokens (EMBEDDING_PRICES)"),
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


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    started = time.monotonic()
    answer = act()
    return time.monotonic() - started, answer
