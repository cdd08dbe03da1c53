"""Settings -> parts. The only place where concrete classes meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .broker import Broker, broker_at, shown
from .decide.arguments import headers_of
from .decide.budget import Rates
from .decide.prices import number_for
from .decide.retry import RetryPolicy
from .endpoints import addresses
from .engine.chunking import USUAL, ChunkSize
from .engine.instrumented import MeasuredTasks, measured
from .errors import ConfigError
from .model import Model
from .process import keep_what_was_loaded
from .settings import Settings
from .store import Store
from .store.database import Database
from .store.rate_limit import Budget

if TYPE_CHECKING:
    from .engine.engine import Engine
    from .engine.worker import Worker
    from .providers import Provider
    from .steward.steward import Steward


def store(settings: Settings, *, size: int = 2, name: str = "embedq", by_index: bool = False) -> Store:
    return Store(Database(addresses(settings).database_url, size=size, name=name, by_index=by_index))


def async_store(settings: Settings, *, size: int) -> Store:
    """A store for code that runs below `bridge.bridged`, in one event loop."""
    from .store.asynchronous import AsyncDatabase

    return Store(AsyncDatabase(addresses(settings).database_url, size=size))


def broker(settings: Settings) -> Broker:
    return broker_at(addresses(settings).broker_url)


def wanted_model(settings: Settings) -> Model:
    """The model that the settings name, with its provider's usual name and dimensions where they name none."""
    from .providers.registry import default_model, known_model

    name, dimensions = settings.model, settings.dimensions
    if name and (known := known_model(settings.provider, name)):
        name, dimensions = known[0], dimensions or known[1]
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


def trial_model(settings: Settings) -> Model:
    """The first model of an installation for trying out: what the settings name, else a real one where the extra `local` is installed."""
    if model_named(settings):
        return wanted_model(settings)
    from .providers.local import installed

    return wanted_model(replace(settings, provider="local") if installed() else settings)


def agreed_model(settings: Settings, store: Store) -> Model:
    """The active model; refused when the settings name another one."""
    active = store.models.active()
    return active if active is not None and not model_named(settings) else store.models.agree(wanted_model(settings))


def budget(settings: Settings, store: Store, model: Model) -> Budget | None:
    """The budget of the model's provider; None when the settings limit nothing."""
    rates = Rates(int(number_for(settings.requests_per_minute, model)), int(number_for(settings.tokens_per_minute, model)))
    return Budget(store.database, model.provider, rates) if rates else None


def chunk_size(settings: Settings, model: Model) -> ChunkSize:
    """As the settings have it for this model; the usual size where they say nothing of it."""
    tokens, overlap = (
        int(number_for(f"{usual},{raw}", model))
        for usual, raw in zip(USUAL, (settings.chunk_tokens, settings.chunk_overlap), strict=True)
    )
    return ChunkSize(tokens or USUAL.tokens, overlap)


def set_up(
    settings: Settings, store: Store, revision: str = "head", first: Model | None = None
) -> tuple[str | None, str | None, Model]:
    """Schema, first mode and first model, as the settings want them: the revisions before and after, and the active model.

    `first`: the model of a database that has none yet, instead of the settings' one.
    """
    from .store import grants, schema

    before, after = schema.upgrade(store.database, revision)
    if before not in (None, after):
        grants.renew(store.database)
    if before is None:
        store.status.set_mode(settings.mode, "first set up", "embedq", category="set up")
    store.status.first(settings.mode)
    if first is not None and store.models.active() is None:
        store.models.agree(first)
    return before, after, agreed_model(settings, store)


def provider_factory(settings: Settings) -> Callable[[Model], Provider]:
    from dataclasses import replace

    from .providers import ProviderSettings
    from .providers.registry import make

    ours = ProviderSettings(
        openai_api_key=settings.openai_api_key or None,
        openai_base_url=settings.openai_base_url.secret or None,
        ollama_base_url=settings.ollama_base_url.secret,
        openai_organization=settings.openai_organization or None,
        openai_project=settings.openai_project or None,
        timeout_s=settings.provider_timeout_s,
        headers=headers_of(settings.provider_headers),
    )
    return measured(
        lambda model: make(model, replace(ours, max_input_tokens=int(number_for(settings.max_input_tokens, model))))
    )


@dataclass(slots=True)
class WorkerParts:
    """What a process that embeds is made of."""

    store: Store
    broker: Broker
    worker: Worker
    engine: Engine
    steward: Steward

    def start(self, settings: Settings) -> None:
        """Register the worker; show its metrics where the settings want them. Raises ConfigError where PostgreSQL is behind a pooler
        that keeps no session."""
        self.store.database.demand_session()
        self.worker.start()
        self.engine.prepare()
        keep_what_was_loaded()
        if settings.metrics_port:
            from .operations.metrics import listen

            listen(settings, self.worker)

    def close(self) -> None:
        self.worker.stop()
        self.broker.close()
        self.store.close()


def policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(settings.max_retries, settings.retry_backoff_base_ms / 1000, settings.retry_backoff_max_ms / 1000)


def worker_parts(
    settings: Settings, delivery: str, *, name: str | None = None, queues: Sequence[str] = (), concurrency: int | None = None
) -> WorkerParts:
    """Everything a worker needs, not yet started. Each thread may hold one connection; four more are for heartbeat, LISTEN, steward and looks."""
    from .engine.engine import Engine
    from .engine.worker import BROKER, Worker
    from .steward.steward import Steward

    threads = concurrency or settings.concurrent_workers
    its_store = store(settings, size=threads + 4, name=f"embedq {delivery}", by_index=True)
    its_store.tasks = MeasuredTasks(its_store.database, delivery)
    its_broker = broker(settings)
    worker = Worker(its_store, delivery, name=name, queues=queues)
    engine = Engine(
        its_store,
        worker,
        provider_factory(settings),
        policy(settings),
        batch_size=settings.batch_size,
        timeout_s=settings.worker_timeout_s,
        request_timeout_s=settings.provider_timeout_s,
        budgets=lambda model: budget(settings, its_store, model),
        prices=settings.prices,
        sizes=lambda model: chunk_size(settings, model),
    )
    worker.with_each_beat.append(engine.settler.settle_held_up)
    worker.said[BROKER] = shown(its_broker.url)
    steward = Steward(its_store, its_broker, worker, settings, engine.gate.give_way)
    return WorkerParts(its_store, its_broker, worker, engine, steward)
