"""A process that embeds: its store, broker, worker, engine and steward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..broker import Broker, shown
from ..decide.retry import RetryPolicy
from ..engine.instrumented import MeasuredTasks
from ..process import keep_what_was_loaded
from ..settings import Settings
from ..store import Store
from .connections import broker, store
from .models import chunk_size
from .providers import asks, budget, provider_factory, server_of

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.worker import Worker
    from ..steward.steward import Steward


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
            from ..operations.metrics import listen

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
    from ..engine.engine import Engine
    from ..engine.worker import BROKER, Worker
    from ..steward.steward import Steward

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
