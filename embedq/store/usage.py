"""The ledger: what was bought, by day (UTC), tenant and model. Written in the settling transaction, with the vectors."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from ..model import Outcome, Usage
from .arrays import numbers, texts
from .database import Connection, Database, Row
from .queries import QUERIES

# Rows per day, tenant and model: counters are spread over these rows to reduce lock waits between threads that settle together.
SLOTS = 16


def put_usage(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Add the cost of these outcomes, late results included. All writers lock rows in the same order."""
    parts: dict[tuple[str, int], list[Usage]] = {}
    for outcome in outcomes:
        if outcome.usage is not None:
            parts.setdefault((outcome.task.tenant_id, outcome.task.model_id), []).append(outcome.usage)
    bills = {key: Usage(*map(sum, zip(*of_one, strict=True))) for key, of_one in parts.items()}
    if bills:
        connection.execute(QUERIES.put_usage, _columns(bills) | {"slot": threading.get_native_id() % SLOTS})


def _columns(bills: Mapping[tuple[str, int], Usage]) -> dict[str, str]:
    parts = bills.values()
    return {
        "tenants": texts([tenant for tenant, _ in bills]),
        "models": numbers(model for _, model in bills),
        "requests": numbers(bill.requests for bill in parts),
        "inputs": numbers(bill.inputs for bill in parts),
        "reused": numbers(bill.reused for bill in parts),
        "tokens": numbers(bill.tokens for bill in parts),
        "costs": numbers(bill.cost for bill in parts),
    }


class Ledger:
    def __init__(self, database: Database) -> None:
        self.database = database

    def by_day(self, days: int, tenant: str | None = None, model: str | None = None) -> list[Row]:
        """The last `days` days (today included), a row per day, tenant and model, the newest first."""
        return self.database.fetch(QUERIES.usage, {"days": days, "tenant": tenant, "model": model})

    def today(self) -> Usage:
        row = self.database.one(QUERIES.usage_today)
        return Usage(**row) if row else Usage()

    def cap(self, reason: str) -> list[str]:
        """Block normal and low until the end of the day; returns providers that were not blocked before."""
        return [row["name"] for row in self.database.fetch(QUERIES.cap_providers, {"reason": reason})]

    def uncap(self, *, anyway: bool = False) -> list[str]:
        """End caps whose day is over, or all; returns providers that were blocked."""
        return [row["name"] for row in self.database.fetch(QUERIES.uncap_providers, {"anyway": anyway})]
