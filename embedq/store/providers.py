"""Provider state shared by all processes: the state of their circuit breakers (`decide.circuit_breaker`), and spent budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..decide.circuit_breaker import ProviderState
from .database import Database, Row
from .queries import QUERIES


class Paused(NamedTuple):
    """`began`: this fault opened the circuit; otherwise it was open already. `pause_s`: how long it lasts, the longer of the two."""

    faults: int
    pause_s: float
    began: bool


class Providers:
    def __init__(self, database: Database) -> None:
        self.database = database

    def pause(self, provider: str, pause_s: float, why: str) -> Paused | None:
        """A fault: open the circuit, or keep it open for longer. None: no model of this provider is registered."""
        row = self.database.one(QUERIES.pause_provider, {"provider": provider, "pause_s": pause_s, "reason": why})
        return Paused(**row) if row else None

    def well(self, provider: str) -> bool:
        """The provider answered: close its circuit. True if it was open."""
        return self.database.one(QUERIES.provider_well, {"provider": provider}) is not None

    def may_probe(self, provider: str, probe_s: float) -> bool:
        """Whether this process may probe the provider; no other may for `probe_s` seconds."""
        return self.database.one(QUERIES.may_call, {"provider": provider, "probe_s": probe_s}) is not None

    def state(self, provider: str) -> ProviderState | None:
        rows = self.database.fetch(QUERIES.provider_states, {"provider": provider})
        return _state(rows[0]) if rows else None

    def gate(self, provider: str, model_id: int) -> tuple[ProviderState | None, bool]:
        """The provider's state, and whether the model makes other vectors than before (`store.canaries`)."""
        row = self.database.one(QUERIES.gate_of, {"provider": provider, "model_id": model_id})
        if row is None:
            return None, False
        swapped = row.pop("swapped")
        return _state(row), swapped

    def troubled(self) -> list[ProviderState]:
        """Those with an open circuit, by name."""
        return [_state(row) for row in self.database.fetch(QUERIES.provider_states, {"provider": None})]

    def spent_s(self, task_ids: Sequence[int] | None) -> float:
        """Seconds until tasks (these, or any) may be claimed again that wait for nothing but their provider's budget; 0: none does."""
        row = self.database.one(QUERIES.spent_s, {"ids": None if task_ids is None else list(task_ids)})
        return float(row["spent_s"]) if row else 0.0


def _state(row: Row) -> ProviderState:
    return ProviderState(**row)
