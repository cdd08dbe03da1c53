"""The circuit breaker of a provider, shared by all processes. Its rules are in `decide/circuit_breaker`, its state in `store/providers`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..decide.circuit_breaker import Circuit, ProviderState, circuit, look_again_s, next_pause_s, probe_s
from ..errors import ProviderBusy
from ..model import Claimed, Outcome
from .outcomes import waiting
from .requests import Asker
from .runs import Report
from .worker import FAULT, WORDS

if TYPE_CHECKING:
    from ..store import Store
    from .worker import Worker

log = logging.getLogger(__name__)


class ProviderCircuit:
    """The circuit breakers of all providers, for the threads of one process."""

    def __init__(self, store: Store, worker: Worker, request_timeout_s: float, dice: Callable[[], float]) -> None:
        self.store, self.worker = store, worker
        self.request_timeout_s, self.dice = request_timeout_s, dice

    def probe(self, asker: Asker, state: ProviderState, report: Report) -> str | None:
        """After a fault one process probes the provider, and tasks of the others wait for the result. None: requests may be sent; otherwise
        the reason, and `report.wait_s` is set."""
        provider = asker.provider.model.provider
        if circuit(state) is Circuit.OPEN:
            report.wait_s = state.left_s
            return state.why
        if not self.store.providers.may_probe(provider, self.probe_s):
            report.wait_s = look_again_s(self.dice())
            return f"waiting for the probe of {provider}: {state.why}"
        sick = asker.canary()
        if sick is None:
            self._recovered(provider)
            return None
        return self.held_back(provider, sick, report)

    @property
    def probe_s(self) -> float:
        """Seconds after which another process may probe, because the prober may have died."""
        return probe_s(self.request_timeout_s)

    def _recovered(self, provider: str) -> None:
        self.worker.said.pop(f"{FAULT}{provider}", None)
        if self.store.providers.well(provider):
            self.store.audit.write("provider", f"provider {provider} works again", provider=provider)

    def pause(self, provider: str, busy: ProviderBusy) -> float:
        """Open the circuit; returns for how many seconds."""
        self.worker.said[f"{FAULT}{provider}"] = str(busy)[:WORDS]
        pause_s = next_pause_s(self.store.providers.state(provider), busy.retry_after_s, self.dice())
        paused = self.store.providers.pause(provider, pause_s, f"{busy} (next: {busy.hint})")
        log.warning("provider %s is paused for %.1f s: %s", provider, pause_s, busy)
        if paused is None:
            return pause_s
        self.worker.counters["provider_pauses"] += paused.began
        if paused.began and paused.faults == 1:
            self.store.audit.write(
                "provider", f"provider {provider} is paused: {busy}", level="error", provider=provider, hint=busy.hint
            )
        return paused.pause_s

    def paused(self, tasks: Sequence[Claimed], provider: str, busy: ProviderBusy, report: Report) -> list[Outcome]:
        """Open the circuit; returns the outcomes of the tasks that were not sent."""
        why = self.held_back(provider, busy, report)
        return [waiting(task, report.wait_s, why) for task in tasks]

    def held_back(self, provider: str, busy: ProviderBusy, report: Report) -> str:
        """Open the circuit; returns the reason why tasks wait."""
        report.wait_s, report.busy = self.pause(provider, busy), busy
        return str(busy)
