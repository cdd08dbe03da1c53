"""Detaching a model's table of vectors from its partitioned table, without a lock for which readers or writers wait.

Attaching is in the function embedq_add_model. Source: PostgreSQL manual, ALTER TABLE, DETACH PARTITION … CONCURRENTLY and FINALIZE.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

import psycopg

from ..errors import NotWell
from ..model import Model
from .database import Database
from .queries import QUERIES
from .sessions import GIVES_WAY

PATIENCE_S: Final = 10.0
STEPS: Final = {
    "attached": "ALTER TABLE embedding_vectors DETACH PARTITION {table} CONCURRENTLY",
    "pending": "ALTER TABLE embedding_vectors DETACH PARTITION {table} FINALIZE",
    "alone": "DROP TABLE {table}",
}


def drop_vectors(database: Database, model: Model) -> None:
    """Detach the model's table and drop it; an interrupted drop is continued. Raises NotWell, naming who holds it, after `PATIENCE_S`."""
    table, deadline = f"embedding_vectors_{model.id}", time.monotonic() + PATIENCE_S
    with closing(database.connect(name="embedq model drop", lock_timeout=GIVES_WAY)) as connection:
        while row := connection.execute(QUERIES.vectors_attached, {"table": table}).fetchone():
            try:
                connection.execute(STEPS[row["state"]].replace("{table}", table))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as busy:
                if time.monotonic() > deadline:
                    raise NotWell(
                        f"the vectors of {model} are in use by another session: {lock_holders(database, ['embedding_vectors', table])}",
                        hint="nothing waits for it meanwhile; run the same command again when that session has ended, it goes on where it was",
                    ) from busy
                time.sleep(0.1)


def lock_holders(database: Database, tables: list[str]) -> str:
    """Sessions that hold locks on these tables, as text for an operator."""
    holders = database.fetch(QUERIES.lock_holders, {"tables": tables})
    words = [
        f"pid {h['pid']} ({h['application'] or h['role']}, {h['state']}, its transaction is open for {h['open_s']} s)"
        for h in holders
    ]
    return "; ".join(words) or "it has ended meanwhile"
