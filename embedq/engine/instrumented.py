"""Tasks and providers with the same interface that also measure (`telemetry.meter`) and log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import Fault
from ..model import Priority
from ..providers import asynchronous
from ..store import Settled
from ..store.tasks import Tasks
from ..telemetry import logs
from ..telemetry.meter import METER

if TYPE_CHECKING:
    from ..model import Claimed, Delivery, Model, Outcome
    from ..providers import Embedded, Limits, Provider
    from ..store.database import Database


class MeasuredTasks(Tasks):
    """A worker's view of the tasks: how long they waited, how long the store takes, and how each ended."""

    def __init__(self, database: Database, delivery: str) -> None:
        super().__init__(database)
        self.delivery = delivery

    def claim_named(self, worker: int, delivery: Delivery, ids: Sequence[int], limit: int) -> list[Claimed]:
        with METER.timed("store", "claim"):
            claimed = super().claim_named(worker, delivery, ids, limit)
        return _waited(claimed)

    def claim_due(
        self, worker: int, delivery: Delivery, priorities: Sequence[Priority], limit: int, grace_s: float = 0.0
    ) -> list[Claimed]:
        with METER.timed("store", "claim"):
            claimed = super().claim_due(worker, delivery, priorities, limit, grace_s)
        return _waited(claimed)

    def claim_urgent(self, worker: int, delivery: Delivery, limit: int) -> list[Claimed]:
        with METER.timed("store", "claim"):
            claimed = super().claim_urgent(worker, delivery, limit)
        return _waited(claimed)

    def claim_overdue(
        self, worker: int, limit: int, fallback_s: float, priorities: Sequence[Priority] = tuple(Priority)
    ) -> list[Claimed]:
        with METER.timed("store", "claim"):
            claimed = super().claim_overdue(worker, limit, fallback_s, priorities)
        return _waited(claimed)

    def settle(self, worker: int, worker_name: str, outcomes: Sequence[Outcome], *tried: Any, **more: Any) -> Settled:
        with METER.timed("store", "settle"):
            settled = super().settle(worker, worker_name, outcomes, *tried, **more)
        logs.outcomes(worker_name, self.delivery, outcomes, settled.states)
        return settled


def _waited(claimed: list[Claimed]) -> list[Claimed]:
    now = datetime.now(UTC)
    for task in claimed:
        METER.observe("waiting", (now - task.created_at).total_seconds(), task.priority)
    return claimed


class MeasuredProvider:
    """A provider with its requests, faults, tokens and seconds counted."""

    def __init__(self, inner: Provider) -> None:
        self.inner, self.model = inner, inner.model
        self._labels = (inner.model.provider, inner.model.name)

    @property
    def limits(self) -> Limits:
        """The current limits; a provider lowers them when its server refuses a size."""
        return self.inner.limits

    def embed(self, texts: Sequence[str]) -> Embedded:
        with self._measuring():
            return self._counted(self.inner.embed(texts), len(texts))

    async def aembed(self, texts: Sequence[str]) -> Embedded:
        with self._measuring():
            return self._counted(await asynchronous.embed(self.inner, texts), len(texts))

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        METER.count("provider_requests", *self._labels)
        try:
            with METER.timed("provider", *self._labels):
                yield
        except Fault as fault:
            METER.count("provider_faults", *self._labels, type(fault).__name__)
            raise

    def _counted(self, embedded: Embedded, inputs: int) -> Embedded:
        METER.count("provider_tokens", *self._labels, by=embedded.tokens)
        METER.count("provider_inputs", *self._labels, by=inputs)
        return embedded

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await asynchronous.close(self.inner)


def measured(make: Callable[[Model], Provider]) -> Callable[[Model], Provider]:
    """Wrap a provider factory, so that its providers are measured and traced."""
    return lambda model: MeasuredProvider(make(model))
