"""The journal of rollback procedures, kept in the audit log: runs, finished steps, results.

A run consists of entries of category `procedure` with `run`, `kind`, `step`, `state` and `seconds` in their metadata. A
process that dies leaves its run unfinished; the next one continues from its entries.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .control import Audit
from .database import Connection, Database, Row
from .fence import refuse_if_ended
from .queries import QUERIES

CATEGORY = "procedure"
BEGUN, DONE, FAILED, SKIPPED, ENDED, UNDONE = "begun", "done", "failed", "skipped", "ended", "undone"
# The exit code of a run that another has taken over: it was not verified.
TAKEN_OVER = 3


@dataclass(slots=True)
class Run:
    """One procedure as the journal tells it. `options` are those it began with; `notes` is what each finished step left."""

    run: str
    kind: str
    began_at: datetime
    options: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_at: datetime | None = None
    exit_code: int | None = None
    undone: bool = False

    @property
    def unfinished(self) -> bool:
        return self.exit_code is None and not self.undone


class Procedures:
    def __init__(self, database: Database) -> None:
        self.database, self.audit = database, Audit(database)

    def begin(self, kind: str, options: Mapping[str, Any], *, instead_of: Run | None = None) -> Run:
        """A new run. `instead_of`: the run that it takes over from ends in the same transaction, and changes nothing from then on."""
        run = secrets.token_hex(4)
        with self.database.transaction() as connection:
            if instead_of is not None:
                self._end(instead_of, TAKEN_OVER, f"taken over by {kind} (run {run})", connection)
            self.audit.write(
                CATEGORY, f"{kind}: begun", connection=connection, run=run, kind=kind, step=None, state=BEGUN, **options
            )
        return self.read(run)

    def refuse_if_taken_over(self, run: Run) -> None:
        """Raises TakenOver when another process has taken over from this run."""
        with self.database.transaction() as connection:
            refuse_if_ended(connection, run.run)

    def note(self, run: Run, step: str, state: str, message: str, *, seconds: float = 0.0, **notes: Any) -> None:
        """Record one step's outcome. Its note is available to later steps, in this process or in one that continues the run."""
        level = "error" if state == FAILED else "warning" if state == SKIPPED else "info"
        self.audit.write(
            CATEGORY,
            f"{run.kind}: {step}: {message}",
            level=level,
            run=run.run,
            kind=run.kind,
            step=step,
            state=state,
            seconds=round(seconds, 3),
            said=message,
            notes=notes,
        )
        if state in (DONE, SKIPPED):
            run.notes[step] = notes | {"state": state, "message": message, "seconds": round(seconds, 3)}

    def end(self, run: Run, exit_code: int, message: str) -> None:
        self._end(run, exit_code, message)

    def _end(self, run: Run, exit_code: int, message: str, connection: Connection | None = None) -> None:
        run.exit_code = exit_code
        self.audit.write(
            CATEGORY,
            f"{run.kind}: {message}",
            level="info" if exit_code == 0 else "warning",
            connection=connection,
            run=run.run,
            kind=run.kind,
            step=None,
            state=ENDED,
            exit_code=exit_code,
        )

    def mark_undone(self, run: Run) -> None:
        run.undone = True
        self.audit.write(CATEGORY, f"{run.kind}: undone", run=run.run, kind=run.kind, step=None, state=UNDONE)

    def read(self, run: str) -> Run:
        rows = self.database.fetch(QUERIES.journal_of, {"run": run})
        return _told(rows)

    def latest(self, limit: int = 10) -> list[Run]:
        """The newest first."""
        return [self.read(row["run"]) for row in self.database.fetch(QUERIES.latest_runs, {"limit": limit})]

    def unfinished(self) -> Run | None:
        """The unfinished run of a process that died, if there is one."""
        latest = self.latest(1)
        return latest[0] if latest and latest[0].unfinished else None

    def timeline(self, begin: datetime, end: datetime) -> list[Row]:
        return self.database.fetch(QUERIES.timeline, {"begin": begin, "end": end})

    def settled_between(self, begin: datetime, end: datetime) -> list[Row]:
        return self.database.fetch(QUERIES.settled_between, {"begin": begin, "end": end})

    def deliveries_lately(self, seconds: float) -> list[Row]:
        """What each delivery completed and failed in the last seconds."""
        return self.database.fetch(QUERIES.deliveries_lately, {"seconds": seconds})

    def oldest_with_broker(self) -> dict[str, Row]:
        """By priority: how many tasks are with the broker, and since when the oldest (seconds)."""
        return {row["priority"]: row for row in self.database.fetch(QUERIES.oldest_with_broker)}

    def audit_lately(self, seconds: float) -> dict[tuple[str, str], int]:
        """Entries of the audit log by (category, level)."""
        rows = self.database.fetch(QUERIES.audit_lately, {"seconds": seconds})
        return {(row["category"], row["level"]): row["entries"] for row in rows}

    def lost_messages_lately(self, seconds: float) -> int:
        """How often the broker was found to have lost messages."""
        row = self.database.one(QUERIES.lost_messages_lately, {"seconds": seconds})
        return int(row["times"]) if row else 0


def _told(rows: list[Row]) -> Run:
    first = rows[0]
    known = ("run", "kind", "step", "state")
    told = Run(first["metadata"]["run"], first["metadata"]["kind"], first["timestamp"])
    told.options = {key: value for key, value in first["metadata"].items() if key not in known}
    for row in rows:
        _tell(told, row)
    return told


def _tell(told: Run, row: Row) -> None:
    data, told.last_at = row["metadata"], row["timestamp"]
    match data["state"]:
        case "done" | "skipped":
            told.notes[data["step"]] = data["notes"] | {
                "state": data["state"],
                "message": data["said"],
                "seconds": data["seconds"],
            }
        case "ended":
            told.exit_code = data["exit_code"]
        case "undone":
            told.undone = True
