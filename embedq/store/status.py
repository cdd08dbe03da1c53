"""The one row that says what runs (S4), and the audit log that says who changed it (S5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from ..model import Mode
from .database import Connection, Database, Row
from .queries import QUERIES


class Status:
    def __init__(self, database: Database) -> None:
        self.database = database

    def live(self) -> Row | None:
        return self.database.one(QUERIES.live_status)

    def first(self, mode: Mode) -> None:
        """The row as EMBEDDING_MODE wants it, if there is none."""
        if self.live() is None:
            self.database.execute(QUERIES.first_status, {"mode": mode})

    def set_mode(self, mode: Mode, reason: str, who: str) -> None:
        """When this returns, no worker of a delivery that is off can claim: the row's trigger waited for claims under way."""
        self._change(QUERIES.set_mode, {"mode": mode, "reason": reason, "who": who})

    def set_running(self, running: bool, reason: str, who: str) -> None:
        self._change(QUERIES.set_running, {"running": running, "reason": reason, "who": who})

    def set_paused(self, priorities: Sequence[str], tenants: Sequence[str], reason: str, who: str) -> None:
        self._change(
            QUERIES.set_paused, {"priorities": list(priorities), "tenants": list(tenants), "reason": reason, "who": who}
        )

    def set_dispatch_held(self, held: bool, who: str) -> None:
        """While it is held, nothing new goes to the broker; what is there goes on."""
        self._change(QUERIES.set_dispatch_held, {"held": held, "who": who})

    def set_maintenance(self, window: Mapping[str, Any] | None, who: str, *, accepted: bool | None) -> None:
        """The maintenance window, or its end; `accepted` also says whether submissions are, None leaves that as it is."""
        written = None if window is None else Jsonb(dict(window))
        self._change(QUERIES.set_maintenance, {"maintenance": written, "accepted": accepted, "who": who})

    def latest_switch(self) -> Row | None:
        """When, from which mode to which, by whom and why; None when the mode was never switched by a command."""
        return self.database.one(QUERIES.latest_switch)

    def _change(self, statement: str, parameters: Mapping[str, Any]) -> None:
        with self.database.transaction() as connection:
            connection.execute(QUERIES.who, {"who": parameters["who"]})
            connection.execute(statement, parameters)


class Audit:
    def __init__(self, database: Database) -> None:
        self.database = database

    def write(
        self, category: str, message: str, *, level: str = "info", connection: Connection | None = None, **metadata: Any
    ) -> int:
        """One line in `embedding_audit_logs`; with a connection, in its transaction. Returns its id."""
        parameters = {"category": category, "message": message, "level": level, "metadata": Jsonb(metadata)}
        row = (
            connection.execute(QUERIES.audit, parameters).fetchone()
            if connection
            else self.database.one(QUERIES.audit, parameters)
        )
        assert row is not None
        return int(row["id"])

    def recent(self, limit: int = 20, category: str | None = None) -> list[Row]:
        return self.database.fetch(QUERIES.recent_audit, {"limit": limit, "category": category})
