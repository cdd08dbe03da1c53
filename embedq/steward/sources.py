"""Follows sources: compares them with their tables a bounded part at a time, and finds what no trigger saw."""

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
# Of the steward's time, in seconds: while rows are missing, and for the routine look.
HURRIED_S, ROUTINE_S = 0.4, 0.1


def step(store: Store, name: str) -> Row | None:
    """One step of the comparison; None: another process is at it. What is wrong with the whole source is kept with it, and raised as NotWell."""
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
    """With the SQLSTATE, as the triggers write it."""
    cause = failed if isinstance(failed, psycopg.Error) else failed.__cause__
    if isinstance(cause, psycopg.Error):
        return f"{cause.diag.message_primary or first_line(cause)} ({cause.sqlstate})"
    return str(failed)


def hook(store: Store, name: str) -> None:
    """The table's new name, and triggers on partitions that came later. Not having the lock now is no harm: the comparison finds their rows."""
    try:
        made = store.sources.keep_hooked(name)
    except (EmbedqError, psycopg.Error) as failed:
        log.info("the triggers of the source %s were not looked after: %s", name, failed)
        return
    if made:
        store.audit.write("source", f"{made} triggers of the source {name} were missing and were made", source=name)


def tend(store: Store, stopping: Callable[[], bool] = lambda: False) -> None:
    """The steward's turn: a bounded part of the comparisons that are due. Those that mend what is known to be missing have more time."""
    for source in store.sources.all():
        if (source["due"] or source["said_only"]) and source["table_now"] is not None and not stopping():
            hurried = source["compared_at"] is None or source["behind_since"] is not None
            if source["progress"] is None:
                hook(store, source["name"])
            _for_a_while(store, source["name"], HURRIED_S if hurried else ROUTINE_S)


def _for_a_while(store: Store, name: str, budget_s: float) -> None:
    deadline = time.monotonic() + budget_s
    try:
        while time.monotonic() < deadline:
            row = step(store, name)
            if row is None or row["progress"] is None:
                return
    except NotWell as failed:
        log.warning("%s", failed)
