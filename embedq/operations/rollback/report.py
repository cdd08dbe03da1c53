"""The report of a procedure: timeline, duration, counts and verification, from the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ...errors import NotFound
from ...store import Store
from ...store.procedures import Run

LATELY = 20
INNER = "begun"


def chosen(store: Store, run: str | None) -> Run:
    """The run with this number, or the latest that was not a rehearsal. Raises NotFound."""
    for each in store.procedures.latest(LATELY if run is None else 1000):
        if each.run == run or (run is None and each.kind != "rehearsal"):
            return each
    raise NotFound(
        f"there is no procedure {run}" if run else "no procedure was ever run here",
        hint="`embedq rollback plan emergency` shows what one would do",
    )


def report(store: Store, run: Run) -> dict[str, Any]:
    """The report of a run, as data."""
    began, ended = run.began_at, run.last_at or run.began_at
    until = datetime.now(UTC) if run.unfinished else ended
    return {
        "run": run.run,
        "kind": run.kind,
        "who": run.options.get("who"),
        "reason": run.options.get("reason"),
        "mode_before": run.options.get("mode_before"),
        "began_at": began,
        "ended_at": None if run.unfinished else ended,
        "seconds": round((until - began).total_seconds(), 1),
        "state": _state(run),
        "exit_code": run.exit_code,
        "steps": [{"step": step} | note for step, note in run.notes.items()],
        "verification": run.notes.get("verify", {}).get("compared"),
        "settled": store.procedures.settled_between(began, until),
        "timeline": [_entry(row) for row in store.procedures.timeline(began, until) if row["metadata"].get("state") != INNER],
        "kept_for_review": store.rejected.count(),
    }


def _state(run: Run) -> str:
    if run.undone:
        return "undone"
    if run.unfinished:
        return "not ended: the same command takes it up"
    return "ended well" if run.exit_code == 0 else "ended, and verify is not content"


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("timestamp", "level", "category", "message")}
