"""The live row (mode, running, pauses), and the audit log of its changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from ..decide.modes import LiveState
from ..model import Mode
from .database import Connection, Database, Row
from .fence import Change, Changed, Fence
from .live import live_state
from .queries import QUERIES

# For "priorities" and "tenants": which to add, and which to take away (None: all that are paused).
Pauses = Mapping[str, tuple[Sequence[str], Sequence[str] | None]]


class Status:
    """The live row. Every change of it goes through the fence, in one transaction with its line in the audit log."""

    def __init__(self, fence: Fence) -> None:
        self.database, self.fence = fence.database, fence

    def live(self) -> LiveState:
        return live_state(self.database)

    def first(self, mode: Mode) -> None:
        """The row as EMBEDDING_MODE wants it, if there is none."""
        if self.live().missing:
            self.set_mode(mode, "first set up", "embedq", category="set up")

    def set_mode(self, mode: Mode, reason: str, who: str, *, category: str = "mode", alone: bool = False) -> Changed:
        """When this returns, no worker of a delivery that is off can claim. `alone`: refused while a rollback procedure is under way."""

        def decide(live: LiveState) -> Change:
            metadata = {"who": who, "before": live.mode, "after": mode, "reason": reason}
            return Change(_said(mode=mode, reason=reason, who=who), category, f"mode {live.mode} -> {mode}: {reason}", metadata)

        return self.fence.change(who, decide, alone=alone)

    def set_running(self, running: bool, reason: str, who: str) -> Changed:
        """Start or stop. When this returns after a stop, no claim can succeed. Reason and author of the row stay those of its mode."""
        category = "start" if running else "stop"
        why = reason or ("started" if running else "stopped")

        def decide(live: LiveState) -> Change:
            was, now = {"is_running": live.is_running}, {"is_running": running}
            return Change(now | _reason_anew(live, why, who), category, f"{category}: {why}", _metadata(who, why, was, now))

        return self.fence.change(who, decide)

    def pause(self, change: Pauses, reason: str, who: str, category: str = "pause") -> tuple[Row, Row]:
        """Pause and resume. Returns what was paused, and what is, by part. Reason and author of the row stay those of its mode."""

        def decide(live: LiveState) -> Change:
            was = paused_in(live, change)
            now = {part: paused_after(was[part], *change[part]) for part in change}
            told = "; ".join(f"{part}: {', '.join(names) or 'none'}" for part, names in now.items())
            values = {f"paused_{part}": tuple(names) for part, names in now.items()}
            return Change(values, category, f"paused now: {told}", _metadata(who, reason, was, now))

        done = self.fence.change(who, decide)
        return paused_in(done.before, change), paused_in(done.after, change)

    def set_dispatch_held(self, held: bool, who: str, reason: str = "") -> Changed:
        """While it is held, nothing new goes to the broker; what is there goes on. Reason and author of the row stay those of its mode."""

        def decide(live: LiveState) -> Change | None:
            if live.dispatch_held is held:
                return None
            was, now = {"dispatch_held": live.dispatch_held}, {"dispatch_held": held}
            words = "dispatch is held" if held else "dispatch follows the mode again"
            return Change(now, "dispatch", words, _metadata(who, reason, was, now))

        return self.fence.change(who, decide)

    def author(self, live: LiveState) -> Row:
        """who, at and reason of the live mode: the latest switch by command, unless the row says that another came after it."""
        latest = self.database.one(QUERIES.author_of_mode)
        if latest and (latest["after"], latest["reason"]) == (live.mode, live.reason):
            return latest
        return {"who": live.changed_by, "at": live.changed_at, "reason": live.reason}

    def stopped_by(self, live: LiveState) -> Row | None:
        """who, at and reason of the command that stopped everything; None while it runs, or when none did."""
        latest = None if live.is_running else self.database.one(QUERIES.latest_stop)
        return latest if latest and latest["category"] == "stop" else None

    def latest_switch(self) -> Row | None:
        """When, from which mode to which, by whom and why; None when the mode was never switched by a command."""
        return self.database.one(QUERIES.latest_switch)


def _said(*, reason: str, who: str, **values: Any) -> dict[str, Any]:
    return values | {"reason": reason, "changed_by": who}


def _reason_anew(live: LiveState, why: str, who: str) -> dict[str, Any]:
    """A row that had been deleted and made anew has lost the reason of its mode."""
    return _said(reason=why, who=who) if live.changed_by is None else {}


def _metadata(who: str, reason: str, was: Row, now: Row) -> dict[str, Any]:
    return {"who": who, "reason": reason, "before": was, "after": now}


def paused_in(live: LiveState, parts: Iterable[str]) -> dict[str, list[str]]:
    """What is paused, by part: "priorities", "tenants"."""
    paused = {"priorities": live.paused_priorities, "tenants": live.paused_tenants}
    return {part: [*paused[part]] for part in parts}


def paused_after(was: Sequence[str], added: Sequence[str], removed: Sequence[str] | None) -> list[str]:
    return sorted({*added} if removed is None else ({*was} | {*added}) - {*removed})


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

    def session_has_ended(self, session: str, lasts_s: float) -> bool:
        """Whether this session of the cockpit was signed out of, in any process, within the time that its cookie lasts."""
        row = self.database.one(QUERIES.session_has_ended, {"session": session, "lasts_s": lasts_s})
        return bool(row and row["ended"])
