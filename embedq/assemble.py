"""Settings -> parts. The only place where concrete classes meet."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .broker import Broker
from .decide.budget import Rates
from .decide.prices import number_for
from .decide.retry import RetryPolicy
from .embedded import default_home, running
from .errors import ConfigError
from .measured import MeasuredTasks, measured
from .model import Model
from .settings import Settings, home_of
from .store import Store
from .store.budget import Budget
from .store.database import Database

if TYPE_CHECKING:
    from .engine import Engine
    from .providers import Provider
    from .steward import Steward
    from .worker import Worker

M_ARENA_MAX = -8


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where PostgreSQL and the broker are: the settings' word, else the embedded servers that run."""

    database_url: str
    broker_url: str
    embedded: bool


def addresses(settings: Settings) -> Addresses:
    """Raises ConfigError when neither the settings nor running embedded servers say where PostgreSQL is."""
    if settings.database_url and settings.effective_broker_url:
        return Addresses(settings.database_url, settings.effective_broker_url, embedded=False)
    here = running(home_of(settings) or default_home())
    if here is None and not settings.database_url:
        raise ConfigError(
            "DATABASE_URL is not set and no embedded servers are running",
            hint="`embedq up` starts everything on this machine; or set DATABASE_URL and REDIS_URL to servers of your own",
        )
    if here is None:
        return Addresses(settings.database_url, "redis://127.0.0.1:6379/0", embedded=False)
    return Addresses(
        settings.database_url or here.database_url, settings.effective_broker_url or here.broker_url, not settings.database_url
    )


def store(settings: Settings, *, size: int = 2, name: str = "embedq", by_index: bool = False) -> Store:
    return Store(Database(addresses(settings).database_url, size=size, name=name, by_index=by_index))


def broker(settings: Settings) -> Broker:
    return Broker(addresses(settings).broker_url)


def wanted_model(settings: Settings) -> Model:
    """The model that the settings name, with its provider's usual name and dimensions where they name none."""
    from .providers.registry import default_model

    name, dimensions = settings.model, settings.dimensions
    if not name or not dimensions:
        usual_name, usual_dimensions = default_model(settings.provider)
        if name and name != usual_name and not dimensions and settings.provider != "hashing":
            raise ConfigError(
                f"EMBEDDING_MODEL={name} has no known dimensions", hint="set EMBEDDING_DIMENSIONS to the length of its vectors"
            )
        name, dimensions = name or usual_name, dimensions or usual_dimensions
    return Model(settings.provider, name, dimensions)


def model_named(settings: Settings) -> bool:
    """Whether the settings say anything about the model, or leave it to the database."""
    return bool(settings.model or settings.dimensions or settings.provider != Settings().provider)


def agreed_model(settings: Settings, store: Store) -> Model:
    """The active model; refused when the settings name another one."""
    active = store.models.active()
    return active if active is not None and not model_named(settings) else store.models.agree(wanted_model(settings))


def budget(settings: Settings, store: Store, model: Model) -> Budget | None:
    """The budget of the model's provider; None when the settings limit nothing."""
    rates = Rates(
        int(number_for(settings.requests_per_minute, model)), int(number_for(settings.tokens_per_minute, model))
    )  # fmt: skip
    return Budget(store.database, model.provider, rates) if rates else None


def set_up(settings: Settings, store: Store, revision: str = "head") -> tuple[str | None, str | None, Model]:
    """Schema, first mode and first model, as the settings want them: the revisions before and after, and the active model."""
    from .store import schema

    before, after = schema.upgrade(store.database, revision)
    if before is None:
        store.status.set_mode(settings.mode, "first set up", "embedq")
    store.status.first(settings.mode)
    return before, after, agreed_model(settings, store)


def provider_factory(settings: Settings) -> Callable[[Model], Provider]:
    from .providers.registry import ProviderSettings, make

    ours = ProviderSettings(
        openai_api_key=settings.openai_api_key or None,
        openai_base_url=settings.openai_base_url or None,
        ollama_base_url=settings.ollama_base_url,
        timeout_s=settings.provider_timeout_s,
    )
    return measured(lambda model: make(model, ours))


@dataclass(slots=True)
class WorkerParts:
    """What a process that embeds is made of."""

    store: Store
    broker: Broker
    worker: Worker
    engine: Engine
    steward: Steward

    def start(self, settings: Settings) -> None:
        """Register the worker; show its metrics where the settings want them."""
        self.worker.start()
        self.engine.prepare()
        # What a start has made stays: the collector need not walk through a thousand modules for every few batches.
        gc.collect()
        gc.freeze()
        if settings.metrics_port:
            from .metrics import listen

            listen(settings, self.worker)

    def close(self) -> None:
        self.worker.stop()
        self.broker.close()
        self.store.close()


def policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(settings.max_retries, settings.retry_backoff_base_ms / 1000, settings.retry_backoff_max_ms / 1000)


def share_memory() -> None:
    """What one thread has given back serves the next: of its own accord glibc keeps it for that thread alone, and each holds an answer's megabytes.

    It counts when it is said before the first thread starts. Source: mallopt(3), M_ARENA_MAX. Other C libraries lack it, and need it less.
    """
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def worker_parts(
    settings: Settings, delivery: str, *, name: str | None = None, queues: Sequence[str] = (), concurrency: int | None = None
) -> WorkerParts:
    """Everything a worker needs, not yet started. Each thread may hold one connection; four more are for the house."""
    from .engine import Engine
    from .steward import Steward
    from .worker import Worker

    threads = concurrency or settings.concurrent_workers
    its_store = store(settings, size=threads + 4, name=f"embedq {delivery}", by_index=True)
    its_store.tasks = MeasuredTasks(its_store.database, delivery)
    its_broker = broker(settings)
    worker = Worker(its_store, delivery, name=name, queues=queues)
    engine = Engine(
        its_store, worker, provider_factory(settings), policy(settings),
        batch_size=settings.batch_size, timeout_s=settings.worker_timeout_s,
        budgets=lambda model: budget(settings, its_store, model), prices=settings.prices,
    )  # fmt: skip
    steward = Steward(its_store, its_broker, worker, settings, engine.gate.give_way)
    return WorkerParts(its_store, its_broker, worker, engine, steward)
