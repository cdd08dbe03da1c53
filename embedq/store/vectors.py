"""Vectors: written by COPY inside the settling transaction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from psycopg.rows import tuple_row

from ..model import Outcome
from . import copy
from .arrays import numbers, raw, texts
from .database import Connection, Database
from .queries import QUERIES

if TYPE_CHECKING:
    import numpy as np

VECTOR_HEAD = 4


class TextKey(NamedTuple):
    """A text of a tenant's, by its SHA-256."""

    tenant_id: str
    digest: bytes


class Vectors:
    def __init__(self, database: Database) -> None:
        self.database = database

    def known(self, model_id: int, keys: Sequence[TextKey]) -> dict[TextKey, np.ndarray]:
        """The stored vectors of these texts, shape (dimensions,), float32; what is not in the answer has none. Bytes all the way."""
        import numpy as np

        if not keys:
            return {}
        statement = QUERIES.known_vectors.replace("{table}", f"embedding_vectors_{model_id}")
        asked = {"tenants": texts([key.tenant_id for key in keys]), "hashes": raw([key.digest for key in keys])}
        with self.database.transaction() as connection:
            rows = connection.execute(statement, asked, binary=True).fetchall()
        return {
            keys[row["place"] - 1]: np.frombuffer(row["vector"][VECTOR_HEAD:], dtype=">f4").astype(np.float32) for row in rows
        }


def put_vectors(connection: Connection, outcomes: Sequence[Outcome]) -> set[str]:
    """Store these articles' vectors, except over vectors of newer text. Returns the ids of the articles stored."""
    stored: set[str] = set()
    by_model = sorted(outcomes, key=lambda outcome: outcome.task.model_id)
    for model_id, group in groupby(by_model, key=lambda outcome: outcome.task.model_id):
        stored |= _put_model(connection, model_id, list(group))
    return stored


def _put_model(connection: Connection, model_id: int, outcomes: Sequence[Outcome]) -> set[str]:
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(QUERIES.put_embeddings, {"model_id": model_id} | _columns(outcomes))
    won: dict[str, bool] = dict(cursor.fetchall())
    replaced = [article_id for article_id, replaces in won.items() if replaces]
    if replaced:
        connection.execute(QUERIES.drop_old_vectors, {"model_id": model_id, "article_ids": replaced})
    with connection.cursor().copy(f"COPY embedding_vectors_{model_id} ({copy.COLUMNS}) FROM STDIN (FORMAT BINARY)") as sink:
        for block in copy.blocks(model_id, [o for o in outcomes if o.task.article_id in won]):
            sink.write(block)
    return set(won)


def _columns(outcomes: Sequence[Outcome]) -> dict[str, str]:
    kept = [(o, o.stored) for o in outcomes if o.stored is not None]
    return {
        "article_ids": texts([o.task.article_id for o, _ in kept]),
        "versions": numbers([o.task.version for o, _ in kept]),
        "hashes": raw([o.task.text_hash for o, _ in kept]),
        "chunks": numbers([len(stored.starts) for _, stored in kept]),
        "tokens": numbers([stored.tokens for _, stored in kept]),
    }
