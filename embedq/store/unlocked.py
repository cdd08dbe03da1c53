"""Changes to many articles while others write: an article that a transaction has locked is skipped, so that neither waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .database import Connection, Database
from .queries import QUERIES
from .settling import MET_A_WRITER

STEP = 500
LOOK_AGAIN_S = 0.05


def on_unlocked(
    database: Database, ids: Sequence[str], act: Callable[[Connection, list[str]], int], *, patience_s: float = 0.0
) -> tuple[int, list[str]]:
    """`act(connection, ids)` in short transactions that hold the articles' rows; the sum of its results, and the ids that were skipped.

    Those are tried again until `patience_s` seconds pass without progress.
    """
    done, left = _once(database, ids, act)
    progress_at = time.monotonic()
    while left and time.monotonic() - progress_at < patience_s:
        time.sleep(LOOK_AGAIN_S)
        before = len(left)
        more, left = _once(database, left, act)
        done += more
        progress_at = time.monotonic() if len(left) < before else progress_at
    return done, left


def _once(database: Database, ids: Sequence[str], act: Callable[[Connection, list[str]], int]) -> tuple[int, list[str]]:
    done, passed_over = 0, list[str]()
    for at in range(0, len(ids), STEP):
        step = list(ids[at : at + STEP])
        try:
            with database.transaction() as connection:
                connection.execute(QUERIES.patience)
                unlocked = [row["id"] for row in connection.execute(QUERIES.unlocked_articles, {"ids": step}).fetchall()]
                made = act(connection, unlocked) if unlocked else 0
            done += made
        except MET_A_WRITER:
            unlocked = []  # a concurrent transaction changes one of their tasks
        if len(unlocked) < len(step):
            had = set(unlocked)
            passed_over += [id for id in step if id not in had]
    return done, passed_over
