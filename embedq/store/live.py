"""Reading the live row (`embedding_worker_status`). It is changed through the fence alone."""

from __future__ import annotations

from ..decide.modes import LiveState
from .database import Database
from .queries import QUERIES


def live_state(database: Database) -> LiveState:
    """The live state; `decide.modes.MISSING` when the row is gone."""
    return LiveState.of(database.one(QUERIES.live_status))
