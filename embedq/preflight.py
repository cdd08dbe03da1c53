"""Checks that keep a misconfigured worker from starting. Workers run them first; `config check` runs them alone.

A server that does not answer is not a problem here: workers start and wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import wiring
from .addresses import shown
from .broker import broker_at
from .endpoints import broker_address
from .errors import ConfigError, EmbedqError
from .model import Model
from .settings import Settings

if TYPE_CHECKING:
    from .store import Store

# Variables that override embedq's broker address in Celery workers only; `celery --broker` sets the first of them.
CELERYS = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
WAIT_S = 1.0


@dataclass(slots=True)
class Found:
    """`problems`: each keeps a worker from starting. `away`: checks that could not be made, with the reason."""

    problems: list[EmbedqError] = field(default_factory=list)
    away: list[str] = field(default_factory=list)

    def look(self, what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except ConfigError as wrong:
            self.problems.append(wrong)
        except EmbedqError as away:
            self.away.append(f"{what}: {away.message}")


def refuse(settings: Settings, env: Mapping[str, str]) -> None:
    """Raises ConfigError, listing all problems, if a worker with these settings must not start."""
    tell(look(settings, env).problems)


def tell(problems: list[EmbedqError]) -> None:
    """Raises ConfigError, listing all problems, if there are any."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"- {each} (next: {each.hint})" for each in problems]
        raise ConfigError(
            "a worker would not start:",
            lines=lines,
            hint="correct them all and run again; `embedq config check` repeats this check",
        )


def look(settings: Settings, env: Mapping[str, str]) -> Found:
    """Run all checks. Raises nothing; a server that does not answer is noted in `away`."""
    found = Found()
    found.look("Celery's variables", lambda: _of_celery(settings, env))
    found.look("the broker", lambda: _of_broker(settings))
    try:
        store = wiring.store(settings, size=1, name="embedq check")
    except ConfigError as unset:
        found.problems.append(unset)
        found.look("the provider", lambda: _of_provider(settings, wiring.wanted_model(settings)))
        return found
    with closing(store):
        found.look("PostgreSQL", store.database.demand_session)
        found.look("the model", lambda: _agreed(settings, store))
        found.look("the provider", lambda: _of_provider(settings, _model(settings, store)))
    return found


def _of_celery(settings: Settings, env: Mapping[str, str]) -> None:
    ours = broker_address(settings)
    for name in CELERYS:
        given = env.get(name, "")
        if given and ours and given != ours.secret:
            raise ConfigError(
                f"{name} names the broker {shown(given)} to Celery's workers, and all other processes publish to {ours.shown}",
                hint=f"unset {name} (`celery --broker` sets it too), and name the broker in EMBEDDING_BROKER_URL for every process",
            )


def _of_broker(settings: Settings) -> None:
    url = broker_address(settings)
    if url:
        broker_at(url).refuse_unsuitable(WAIT_S)


def _agreed(settings: Settings, store: Store) -> None:
    if store.models.active() is not None:
        wiring.agreed_model(settings, store)


def _model(settings: Settings, store: Store) -> Model:
    """The model that a worker would embed with; the settings' model where it contradicts the database's active model."""
    with suppress(EmbedqError):
        if store.models.active() is not None:
            return wiring.agreed_model(settings, store)
    return wiring.wanted_model(settings)


def _of_provider(settings: Settings, model: Model) -> None:
    wiring.provider_factory(settings)(model)
