"""Collects the samples for Prometheus.

`CATALOGUE` lists all metrics: nothing else is exposed, and tests check that the dashboard and the alert rules use no others. A worker's
port exposes what that process measured; the HTTP service exposes the database, the broker, the last heartbeat of every worker, and its own
measurements.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from .._version import __version__
from ..decide.circuit_breaker import ProviderState
from ..decide.facts import Finding
from ..decide.modes import LiveState
from ..decide.sources import SourceState, state_of
from ..errors import BrokerUnavailable, EmbedqError
from ..model import Mode, Priority
from ..store import recall
from ..telemetry.meter import METER
from .metric_catalogue import CATALOGUE

if TYPE_CHECKING:
    from ..broker import Broker
    from ..engine.worker import Worker
    from ..settings import Settings
    from ..store import Store

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PORTS_TRIED = 16


# Counters of a worker that have their own metric; every other key is an outcome of tasks.
COUNTERS = {
    "claimed": "embedq_claimed",
    "late": "embedq_late_results",
    "dispatched": "embedq_dispatched",
    "rescued": "embedq_rescued",
    "provider_pauses": "embedq_provider_pauses",
}
OUTCOMES = ("completed", "failed", "skipped", "cancelled", "pending")
OF_PROCESS = {
    "provider_requests": "embedq_provider_requests",
    "provider_inputs": "embedq_provider_inputs",
    "provider_tokens": "embedq_provider_tokens",
    "provider_faults": "embedq_provider_faults",
    "http_requests": "embedq_http_requests",
}
TIMES_OF_PROCESS = {
    "waiting": "embedq_waiting_seconds",
    "provider": "embedq_provider_seconds",
    "store": "embedq_store_seconds",
    "http": "embedq_http_seconds",
}


def family(name: str) -> Any:
    spec = CATALOGUE[name]
    made = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}[spec.kind]
    return made(name, spec.about, labels=spec.labels)


Sample = tuple[str, tuple[str, ...], float]


def families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """Samples as Prometheus' families, each name once and in the catalogue's order."""
    by_name: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in samples:
        by_name.setdefault(name, {})[labels] = value
    for name in CATALOGUE:
        if name in by_name:
            made = family(name)
            for labels, value in by_name[name].items():
                made.add_metric(labels, value)
            yield made


@dataclass(slots=True, eq=False)
class OfProcess:
    """Collector of this process's measurements, and of its worker's counters if it has one."""

    worker: Worker | None = None

    def collect(self) -> Iterator[Metric]:
        yield from families(self._samples())
        for key, name in TIMES_OF_PROCESS.items():
            made = family(name)
            for labels, buckets, total_s in METER.measured(key):
                made.add_metric(labels, buckets, total_s)
            if made.samples:
                yield made

    def _samples(self) -> Iterator[Sample]:
        yield "embedq_build", (__version__,), 1
        for key, name in OF_PROCESS.items():
            for labels, value in METER.counted(key):
                yield name, labels, value
        if self.worker is not None:
            yield from of_counters(self.worker.delivery, self.worker.name, dict(self.worker.counters))


def of_counters(delivery: str, worker: str, counters: dict[str, Any]) -> Iterator[Sample]:
    for key, name in COUNTERS.items():
        yield name, (delivery, worker), float(counters.get(key, 0))
    for outcome in OUTCOMES:
        yield "embedq_settled", (delivery, worker, outcome), float(counters.get(outcome, 0))


@dataclass(slots=True, eq=False)
class OfHouse:
    """Collector of the state of database, broker and workers' heartbeats. For a part that is unreachable, only its `_up` metric is exposed, as 0."""

    store: Store
    broker: Broker
    look: Callable[[], Sequence[Finding]] = list

    def collect(self) -> Iterator[Metric]:
        return families(self._samples())

    def _samples(self) -> Iterator[Sample]:
        started = time.monotonic()
        yield from _up("embedq_database_up", self._of_database)
        yield from _up("embedq_broker_up", self._of_broker)
        yield "embedq_scrape_seconds", (), time.monotonic() - started

    def _of_database(self) -> Iterator[Sample]:
        yield from of_live(self.store.status.live())
        yield from of_depth(self.store.overview.depth())
        yield from of_workers(self.store.workers.all())
        for row in self.store.overview.failed_groups(by_message=False):
            yield "embedq_failed_tasks", (row["error_class"] or "unknown",), row["tasks"]
        yield "embedq_rejected_messages", (), self.store.rejected.count()
        bought = self.store.ledger.today()
        yield "embedq_tokens_today", (), bought.tokens
        yield "embedq_cost_today", (), bought.cost
        yield "embedq_reused_today", (), bought.reused
        yield "embedq_articles", (), max(0, self.store.overview.about_rows().get("article_texts", 0))
        sampled = recall.lately(self.store.database)
        if sampled is not None and sampled.recall is not None:
            yield "embedq_index_recall", (sampled.model, sampled.kind), sampled.recall
        for found in self.look():
            yield "embedq_finding", (found.rule, found.level.value), 1
        for source in self.store.sources.all():
            for state in SourceState:
                yield "embedq_source", (source["name"], state.value), float(state is state_of(source))
        yield from of_providers([m["provider"] for m in self.store.models.all()], self.store.providers.troubled())

    def _of_broker(self) -> Iterator[Sample]:
        for queue, seen in self.broker.look().items():
            yield "embedq_broker_messages", (queue, "waiting"), seen.waiting
            yield "embedq_broker_messages", (queue, "unacknowledged"), seen.unacknowledged


def _up(name: str, part: Callable[[], Iterator[Sample]]) -> Iterator[Sample]:
    try:
        found = list(part())
    except (EmbedqError, BrokerUnavailable) as away:
        log.info("not in the metrics: %s", away)
        yield name, (), 0
        return
    yield name, (), 1
    yield from found


def of_live(live: LiveState) -> Iterator[Sample]:
    for mode in Mode:
        yield "embedq_mode", (mode.value,), float(live.mode is mode and not live.missing)
    yield "embedq_running", (), float(live.is_running)
    yield "embedq_submissions_accepted", (), float(live.submissions_accepted)
    yield "embedq_dispatch_held", (), float(live.dispatch_held)
    yield "embedq_maintenance", (), float(live.maintenance_runs)


def of_depth(rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
    for priority in Priority:
        for place in ("table", "broker", "worker"):
            yield "embedq_open_tasks", (priority.value, place), 0
            yield "embedq_oldest_task_seconds", (priority.value, place), 0
        yield "embedq_delayed_tasks", (priority.value,), 0
    for row in rows:
        where = (row["priority"], row["place"])
        yield "embedq_open_tasks", where, row["tasks"]
        if row["oldest"] is not None:
            yield "embedq_oldest_task_seconds", where, max(0.0, time.time() - row["oldest"].timestamp())
        if row["place"] == "table":
            yield "embedq_delayed_tasks", (row["priority"],), row["delayed"]


def of_workers(rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
    alive = [row for row in rows if row["alive"]]
    for delivery in ("celery", "poller"):
        of_delivery = [row for row in alive if row["delivery"] == delivery]
        yield "embedq_workers", (delivery,), len(of_delivery)
        for queue in Priority:
            serving = sum(queue in (row["queues"] or Priority) for row in of_delivery)
            yield "embedq_queue_consumers", (queue.value, delivery), serving
    for row in alive:
        yield "embedq_steward", (row["name"],), float(row["steward_since"] is not None)
        yield from of_counters(row["delivery"], row["name"], row["counters"])


def of_providers(known: Iterable[str], troubled: Iterable[ProviderState]) -> Iterator[Sample]:
    for provider in known:
        yield "embedq_provider_up", (provider,), 1
        yield "embedq_provider_paused_seconds", (provider,), 0
    for each in troubled:
        yield "embedq_provider_up", (each.name,), 0
        yield "embedq_provider_paused_seconds", (each.name,), each.left_s


def page(*collectors: Any) -> bytes:
    """The text of one scrape."""
    return generate_latest(_registry(*collectors))


def _registry(*collectors: Any) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry


def listen(settings: Settings, worker: Worker) -> int:
    """Serve a worker's metrics on EMBEDDING_METRICS_PORT or the next free port; returns the port, 0 if none."""
    if not settings.metrics_port:
        return 0
    registry = _registry(OfProcess(worker))
    for port in range(settings.metrics_port, min(settings.metrics_port + PORTS_TRIED, 65_536)):
        try:
            start_http_server(port, settings.metrics_host, registry)
        except OSError:
            continue
        log.info("metrics of %s are at http://%s:%d/metrics", worker.name, settings.metrics_host, port)
        return port
    log.warning("no free port from %d on: %s shows no metrics", settings.metrics_port, worker.name)
    return 0
