"""The budget of a provider: a token bucket in PostgreSQL shared by all processes, updated by one short statement before each request.

It is in PostgreSQL, not in Redis, so that it works in every mode and while the broker is down (docs/why/budget.rst).
"""

from __future__ import annotations

from ..decide.budget import EARLY_S, TOKEN_BURST_SHARE, Bucket, Place, Rates, place_of, rates_of
from ..model import Priority
from .database import Database
from .queries import QUERIES


class Budget:
    """One provider's budget. `take` before each request; `spend` where the caller cannot wait."""

    def __init__(self, database: Database, provider: str, rates: Rates) -> None:
        self.database, self.provider = database, provider
        self.requests = rates_of(rates.requests_per_minute)
        self.tokens = rates_of(rates.tokens_per_minute, burst_share=TOKEN_BURST_SHARE)

    @property
    def max_tokens(self) -> int | None:
        """No request should be larger than the bucket; None without a limit of tokens."""
        return int(self.tokens.burst) if self.tokens.rate_s else None

    def take(self, tokens: int, priority: Priority, patience_s: float) -> Place:
        """Reserve a request of so many estimated tokens: how long to wait for it, or, beyond `patience_s` seconds, how long it would take."""
        row = self.database.one(QUERIES.take_budget, self._asked(tokens, patience_s, kept=priority is not Priority.URGENT))
        assert row is not None
        return place_of(row["wait_s"])

    def spend(self, tokens: int) -> None:
        """Take it even if the bucket is empty: requests that wait are delayed."""
        self.database.execute(QUERIES.take_budget, self._asked(tokens, float("inf"), kept=False))

    def leave_alone(self, wait_s: float) -> None:
        """For so long only urgent tasks of this provider are claimed: others could only be handed back."""
        self.database.execute(QUERIES.budget_spent, {"provider": self.provider, "wait_s": wait_s})

    def _asked(self, tokens: int, patience_s: float, *, kept: bool) -> dict[str, object]:
        asked = {"provider": self.provider, "tokens": tokens, "patience_s": patience_s, "early_s": EARLY_S}
        return asked | _columns("request", self.requests, kept) | _columns("token", self.tokens, kept)


def _columns(name: str, bucket: Bucket, kept: bool) -> dict[str, object]:
    return {
        f"{name}_rate": bucket.rate_s,
        f"{name}_room": bucket.burst + bucket.reserve,
        f"{name}s_kept": bucket.reserve if kept else 0.0,
    }
