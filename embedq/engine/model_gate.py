"""Whether requests may be sent to a model and its answers stored: its provider's circuit is closed, and its vectors are those of the
registered model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..decide.circuit_breaker import Circuit, circuit
from ..decide.sameness import LOOK_AGAIN_S
from ..errors import ProviderBusy, StoreUnavailable
from .answers import Answers
from .provider_circuit import ProviderCircuit
from .requests import Asker
from .runs import Report
from .sameness import Sameness

if TYPE_CHECKING:
    from ..store import Store

# After a batch that took longer, the state in the table is read again before vectors are stored.
LONG_BATCH_S = 1.0


class ModelGate:
    """Each check returns None if the batch may continue; otherwise the reason why its tasks wait, and it sets `report.wait_s`."""

    def __init__(self, store: Store, provider: ProviderCircuit, sameness: Sameness, dice: Callable[[], float]) -> None:
        self.store, self.provider, self.sameness, self.dice = store, provider, sameness, dice

    def admit(self, asker: Asker, report: Report) -> str | None:
        """Check before a batch is sent."""
        model = asker.provider.model
        state, swapped = self.store.providers.gate(model.provider, model.id)
        if state is not None and circuit(state) is not Circuit.CLOSED and (why := self.provider.probe(asker, state, report)):
            return why
        known = next(iter(self.store.canaries.swapped(model.id)), None) if swapped else None
        return self._looked(asker, report, lambda: self.sameness.hindrance(asker, known))

    def seen(self, asker: Asker, answers: Answers, report: Report, began: float) -> str | None:
        """Check after the answer: by the canary's vector in it and, after a long batch, by what other processes have recorded meanwhile."""
        if not any(had.share for had in answers.had.values()):
            return None
        try:
            return self._seen(asker, report, began)
        except StoreUnavailable:  # the answers are kept until it is back; the look stays due
            return None

    def _seen(self, asker: Asker, report: Report, began: float) -> str | None:
        why = self._looked(asker, report, lambda: self.sameness.seen(asker))
        if why is None and time.monotonic() - began > LONG_BATCH_S:
            swapped = self.store.canaries.swapped(asker.provider.model.id)
            return self._looked(asker, report, swapped[0].told) if swapped else None
        return why

    def _looked(self, asker: Asker, report: Report, look: Callable[[], str | None]) -> str | None:
        try:
            why = look()
        except ProviderBusy as busy:
            return self.provider.held_back(asker.provider.model.provider, busy, report)
        if why is not None:
            report.wait_s = LOOK_AGAIN_S * (1 + self.dice()) / 2
        return why
