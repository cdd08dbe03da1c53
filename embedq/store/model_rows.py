"""Removes a model's rows, in bounded steps, when it is dropped."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from ..errors import NotWell
from ..model import Model
from .control import Audit
from .database import Database
from .partitions import drop_vectors, lock_holders
from .queries import QUERIES

STEP = 5000
FORGET_TRIES = 20


def forget_rows(database: Database, model: Model, *, who: str, why: str, bytes: int) -> dict[str, int]:
    """Cancel its tasks, remove its embeddings, drop its vectors, and forget it; how many tasks and embeddings. `bytes`: for the audit log."""
    cancelled = _cancel(database, model)
    forgotten = _forget_embeddings(database, model)
    drop_vectors(database, model)
    _forget(database, model, who, why, bytes)
    return {"tasks": cancelled, "embeddings": forgotten}


def _cancel(database: Database, model: Model) -> int:
    return until_none(lambda: database.execute(QUERIES.cancel_model_tasks, {"model_id": model.id, "limit": 1000}))


def _forget_embeddings(database: Database, model: Model) -> int:
    forgotten, after = 0, ""
    while True:
        step = {"model_id": model.id, "after": after, "limit": STEP}
        row = database.one(QUERIES.forget_embeddings, step)
        if row is None or row["last"] is None:
            return forgotten
        after, forgotten = row["last"], forgotten + row["embeddings"]


def _forget(database: Database, model: Model, who: str, why: str, freed: int) -> None:
    """The last rows that name it. A settle that came in between is waited for a moment, and again."""
    for _ in range(FORGET_TRIES):
        try:
            with database.transaction() as connection:
                connection.execute(QUERIES.patience)
                connection.execute("DELETE FROM embeddings WHERE model_id = %(id)s", {"id": model.id})
                connection.execute(QUERIES.forget_model, {"model_id": model.id})
                Audit(database).write(
                    "model",
                    f"drop: {model} is forgotten",
                    connection=connection,
                    who=who,
                    reason=why,
                    model=model.id,
                    bytes=freed,
                )
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(0.1)
    raise NotWell(
        f"rows that name {model} are held by another session: {lock_holders(database, ['embeddings', 'embedding_models'])}",
        hint="its vectors are dropped; run the same command again when that session has ended",
    )


def until_none(step: Callable[[], int]) -> int:
    """Repeat a step until it finds nothing; how many it found in all."""
    done = 0
    while (some := step()) > 0:
        done += some
    return done
