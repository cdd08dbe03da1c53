"""Compares sources with their tables, a bounded part at a time, to find changes that no trigger reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg

from ..decide.refusals import first_line
from ..errors import EmbedqError, InputError, NotWell
from ..store import Store
from ..store.database import Row

log = logging.getLogger(__name__)

STEP = 500
# Seconds of the steward's time per turn: while rows are known to be missing, and for the routine comparison.
HURRIED_S, ROUTINE_S = 0.4, 0.1
# A new source's rows are taken in without pauses while fewer than AHEAD tasks are open, so that workers stay busy; for FILLING_S per turn.
AHEAD, FILLING_S = 2000, 5.0


def step(store: Store, name: str) -> Row | None:
    """One step of the comparison; None: another process runs it. A problem of the whole source is recorded with the source and raised as NotWell."""
    try:
        return store.sources.step(name, STEP)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        return None
    except InputError as refused:
        raise NotWell(f"the source {name} cannot be compared: {refused}", hint=refused.hint) from refused
    except (EmbedqError, psycopg.Error) as failed:
        reason = _reason(failed)
        store.sources.mark_behind(name, reason)
        raise NotWell(
            f"the source {name} cannot be compared: {reason}", hint="`embedq status` names the command that mends it"
        ) from failed


def _reason(failed: BaseException) -> str:
    """The error's message with its SQLSTATE, in the triggers' format."""
    cause = failed if isinstance(failed, psycopg.Error) else failed.__cause__
    if isinstance(cause, psycopg.Error):
        return f"{cause.diag.message_primary or first_line(cause)} ({cause.sqlstate})"
    return str(failed)


def hook(store: Store, name: str) -> None:
    """Record a new name of the table, and add triggers to partitions attached later. If the lock is not free it is retried later; the
    comparison finds their rows."""
    try:
        made = store.sources.keep_hooked(name)
    except (EmbedqError, psycopg.Error) as failed:
        log.info("the triggers of the source %s were not looked after: %s", name, failed)
        return
    if made:
        store.audit.write("source", f"{made} triggers of the source {name} were missing and were made", source=name)


def tend(store: Store, stopping: Callable[[], bool] = lambda: False) -> None:
    """The steward's chore: a bounded part of the comparisons that are due. Those that repair a known gap get more time."""
    for source in store.sources.all():
        if (source["due"] or source["said_only"]) and source["table_now"] is not None and not stopping():
            hurried = source["compared_at"] is None or source["behind_since"] is not None
            if source["progress"] is None:
                hook(store, source["name"])
            _for_a_while(store, source["name"], HURRIED_S if hurried else ROUTINE_S)
            if source["compared_at"] is None:
                _keep_ahead(store, source["name"], stopping)


def _for_a_while(store: Store, name: str, budget_s: float, going_on: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + budget_s
    try:
        while time.monotonic() < deadline and going_on():
            row = step(store, name)
            if row is None or row["progress"] is None:
                return
    except NotWell as failed:
        log.warning("%s", failed)


def _keep_ahead(store: Store, name: str, stopping: Callable[[], bool]) -> None:
    """No open task: writes make none at present (modes `sync` and `off`), and nothing waits for more rows."""
    _for_a_while(store, name, FILLING_S, lambda: not stopping() and 0 < store.sources.open_tasks(AHEAD) < AHEAD)
