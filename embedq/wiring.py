"""Builds the parts of a process from its settings. The only module that combines concrete classes of several rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .broker import Broker, broker_at, shown
from .decide.arguments import headers_of
from .decide.budget import Rates
from .decide.preparation import KNOWN, prefixes_of, same_prefixes, told, with_prefixes
from .decide.prices import named_for, number_for
from .decide.retry import RetryPolicy
from .endpoints import addresses
from .engine.chunking import USUAL, ChunkSize
from .engine.instrumented import MeasuredTasks, measured
from .errors import ConfigError
from .model import Model, Preparation, Role
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
    """The store for these settings. `size`: connections; `by_index`: its sessions avoid sequential scans. Connects at the first statement."""
    return Store(Database(addresses(settings).database_url, size=size, name=name, by_index=by_index))


def async_store(settings: Settings, *, size: int) -> Store:
    """A store for code that runs below `bridge.bridged`, in one event loop."""
    from .store.asynchronous import AsyncDatabase

    return Store(AsyncDatabase(addresses(settings).database_url, size=size))


def broker(settings: Settings) -> Broker:
    return broker_at(addresses(settings).broker_url)


def wanted_model(settings: Settings) -> Model:
    """The model that the settings name; name and dimensions default to the provider's."""
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
    model = Model(settings.provider, name, dimensions, storage=settings.storage)
    return prepared_model(settings, model, settings.prefixes, headings=settings.chunk_headings)


def prepared_model(
    settings: Settings, model: Model, prefixes: str = "", size: ChunkSize | None = None, *, headings: bool = False
) -> Model:
    """The model with its preparation for registration: prefixes as given, else those known for the model."""
    known = known_preparation_of(model)
    given = prefixes_of(prefixes)
    chosen = size or chunk_size(settings, model)
    preparation = with_prefixes(known, given) if given is not None else known
    return replace(
        model,
        preparation=replace(preparation, chunk_tokens=chosen.tokens, chunk_overlap=chosen.overlap_tokens, headings=headings),
    )


def model_named(settings: Settings) -> bool:
    """Whether the settings name a model; if not, the database's active model is used."""
    return bool(settings.model or settings.dimensions or settings.provider != Settings().provider)


def trial_model(settings: Settings) -> Model:
    """The first model of a trial installation: the settings' model, else the `local` model where that extra is installed, else `hashing`."""
    if model_named(settings):
        return wanted_model(settings)
    from .providers.local import installed

    return wanted_model(replace(settings, provider="local") if installed() else settings)


def agreed_model(settings: Settings, store: Store) -> Model:
    """The active model; refused when the settings name another one."""
    active = store.models.active()
    if active is None or model_named(settings):
        active = store.models.agree(wanted_model(settings))
    _refuse_another_preparation(settings, active)
    return active


def _refuse_another_preparation(settings: Settings, active: Model) -> None:
    """Refuse settings whose preparation differs from that of the active model. Settings that name another model are not compared."""
    if model_named(settings) and wanted_model(settings).asked_as != active.asked_as:
        return
    registered, said = active.preparation, prefixes_of(settings.prefixes)
    if settings.prefixes == KNOWN:
        said = known_preparation_of(active)
    if said is not None and not same_prefixes(registered, said):
        raise _another(active, "EMBEDDING_PREFIXES", f"--prefixes {quote(settings.prefixes)}")
    if settings.chunk_headings and not registered.headings:
        raise _another(active, "EMBEDDING_CHUNK_HEADINGS", "--headings")
    size = _size_said(settings, active)
    if registered.chunk_tokens is not None and size not in (
        None,
        ChunkSize(registered.chunk_tokens, registered.chunk_overlap or 0),
    ):
        assert size is not None
        raise _another(
            active,
            "EMBEDDING_CHUNK_TOKENS or EMBEDDING_CHUNK_OVERLAP",
            f"--chunk-tokens {size.tokens} --chunk-overlap {size.overlap_tokens}",
        )


def known_preparation_of(model: Model) -> Preparation:
    from .providers.prefixes import known_preparation

    return known_preparation(model.provider, model.asked_as)


def _another(active: Model, setting: str, options: str) -> ConfigError:
    return ConfigError(
        f"{setting} differs from what {active} is registered with ({told(active.preparation) or 'no prefixes'})",
        hint=f"unset it: what a model is registered with is used by every process. For other inputs build another model beside it: `embedq model add"
        f" {active.provider} {active.asked_as} {active.dimensions} {options}`",
    )


def budget(settings: Settings, store: Store, model: Model) -> Budget | None:
    """The rate limit of the model's provider; None when the settings set none."""
    rates = Rates(int(number_for(settings.requests_per_minute, model)), int(number_for(settings.tokens_per_minute, model)))
    return Budget(store.database, model.provider, rates) if rates else None


def chunk_size(settings: Settings, model: Model) -> ChunkSize:
    """The model's registered chunk size; if it has none, that of the settings, else the default."""
    registered = model.preparation
    if registered.chunk_tokens is not None:
        return ChunkSize(registered.chunk_tokens, registered.chunk_overlap or 0)
    return _size_of(settings, model)


def _size_said(settings: Settings, model: Model) -> ChunkSize | None:
    """The chunk size that the settings give for this model; None when they give none."""
    usual = Settings()
    pairs = ((settings.chunk_tokens, usual.chunk_tokens), (settings.chunk_overlap, usual.chunk_overlap))
    said = any(raw != default and named_for(raw, model) is not None for raw, default in pairs)
    return _size_of(settings, model) if said else None


def _size_of(settings: Settings, model: Model) -> ChunkSize:
    tokens, overlap = (
        int(number_for(f"{usual},{raw}", model))
        for usual, raw in zip(USUAL, (settings.chunk_tokens, settings.chunk_overlap), strict=True)
    )
    return ChunkSize(tokens or USUAL.tokens, overlap)


def set_up(
    settings: Settings, store: Store, revision: str = "head", first: Model | None = None
) -> tuple[str | None, str | None, Model]:
    """Create or upgrade the schema, and set the first mode and model from the settings. Returns the revisions before and after, and the active model.

    `first`: the model for a database that has none yet, instead of the settings' model.
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


def provider_factory(settings: Settings, role: Role = Role.DOCUMENT) -> Callable[[Model], Provider]:
    """Returns a function that makes the provider of a model for stored texts or for queries, because their prefixes may differ."""
    from .providers import ProviderSettings
    from .providers.prepared import prepared
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
        lambda model: prepared(
            make, model, replace(ours, max_input_tokens=int(number_for(settings.max_input_tokens, model))), role
        )
    )


def server_of(settings: Settings, model: Model) -> str:
    """Host and port that this process sends the model's requests to (the rest of the address may hold a secret); empty for providers
    without a server."""
    from .providers.openai import OPENAI_URL

    addresses = {"openai": settings.openai_base_url.secret or OPENAI_URL, "ollama": settings.ollama_base_url.secret}
    named = addresses.get(model.provider)
    if named is None:
        return ""
    parts = urlsplit(named)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def asks(settings: Settings, model: Model) -> str:
    """Host, port and fingerprint of the key that this process uses for the model, for its heartbeat."""
    from .providers.secrets import fingerprint

    server = server_of(settings, model)
    if not server:
        return "no server"
    key = settings.openai_api_key if model.provider == "openai" else ""
    return f"{server}, key {fingerprint(server, key, settings.provider_headers) or 'none'}"


@dataclass(slots=True)
class WorkerParts:
    """The parts of a process that embeds."""

    store: Store
    broker: Broker
    worker: Worker
    engine: Engine
    steward: Steward

    def start(self, settings: Settings) -> None:
        """Register the worker and serve its metrics if the settings name a port. Raises ConfigError when PostgreSQL is behind a pooler that
        does not keep sessions."""
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
    """The retry policy of the settings, in seconds."""
    return RetryPolicy(settings.max_retries, settings.retry_backoff_base_ms / 1000, settings.retry_backoff_max_ms / 1000)


def worker_parts(
    settings: Settings, delivery: str, *, name: str | None = None, queues: Sequence[str] = (), concurrency: int | None = None
) -> WorkerParts:
    """The parts of a worker, not yet started. The pool has one connection per thread, and four for heartbeat, LISTEN, steward and short look-ups."""
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
        servers=lambda model: server_of(settings, model),
        asks=lambda model: asks(settings, model),
    )
    worker.with_each_beat.append(engine.settler.settle_held_up)
    worker.said[BROKER] = shown(its_broker.url)
    steward = Steward(its_store, its_broker, worker, settings, engine.gate.give_way)
    return WorkerParts(its_store, its_broker, worker, engine, steward)
