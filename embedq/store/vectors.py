"""Vectors: written by COPY inside the settling transaction."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from psycopg.rows import tuple_row

from ..model import Outcome
from . import copy
from .arrays import numbers, raw, texts
from .database import Connection, Database, Row
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

    def samples(self, model_id: int, limit: int) -> list[Sample]:
        """A few stored vectors with the texts that they were made from."""
        rows = self.database.fetch(QUERIES.stored_samples.replace("{table}", f"embedding_vectors_{model_id}"), {"limit": limit})
        return [sample for row in rows if (sample := _sample(row)) is not None]

    def known(self, model_id: int, keys: Sequence[TextKey]) -> dict[TextKey, np.ndarray]:
        """The stored vectors of these texts, shape (dimensions,), float32; a text without a vector is not in the answer. Vectors stay in binary form."""
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


class Sample(NamedTuple):
    """A text, and the vector of the model that is stored for it, shape (dimensions,), float32."""

    text: str
    vector: np.ndarray


def _sample(row: Row) -> Sample | None:
    """None: the text is not the one whose hash is stored with the vector."""
    import numpy as np

    text = f"{row['title']}\n\n{row['content']}".strip()[row["starts_at"] : row["ends_at"]]
    if sha256(text.encode()).digest() != bytes(row["chunk_hash"]):
        return None
    return Sample(text, np.array(row["vector"][1:-1].split(","), dtype=np.float32))


class NotStored(Exception):
    """Vectors of a text with a higher number are stored, or there is no such article: the transaction must be rolled back."""


def put_vectors(connection: Connection, outcomes: Sequence[Outcome], *, replacing: bool = False, anyway: bool = False) -> None:
    """Store these articles' vectors, each for the tenant that its article has now. Raises NotStored unless all of them are.

    `replacing`: remove vectors of these articles that have no row in `embeddings`. `anyway`: also over vectors of a text with a higher number; the
    caller holds the articles' rows and has seen that these are their texts.
    """
    by_model = sorted(outcomes, key=lambda outcome: outcome.task.model_id)
    for model_id, group in groupby(by_model, key=lambda outcome: outcome.task.model_id):
        _put_model(connection, model_id, list(group), replacing, anyway)


def _put_model(connection: Connection, model_id: int, outcomes: Sequence[Outcome], replacing: bool, anyway: bool) -> None:
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(QUERIES.put_embeddings, {"model_id": model_id, "anyway": anyway} | _columns(outcomes))
    rows = cursor.fetchall()
    tenants: dict[str, str] = {article_id: tenant for article_id, _, tenant in rows if tenant is not None}
    if len(tenants) < len(outcomes):
        raise NotStored(f"{len(outcomes) - len(tenants)} of {len(outcomes)} articles have newer vectors or are gone")
    replaced = [article_id for article_id, replaces, _ in rows if replaces or replacing]
    if replaced:
        connection.execute(QUERIES.drop_old_vectors, {"model_id": model_id, "article_ids": replaced})
    with connection.cursor().copy(f"COPY embedding_vectors_{model_id} ({copy.COLUMNS}) FROM STDIN (FORMAT BINARY)") as sink:
        for block in copy.blocks(model_id, outcomes, tenants):
            sink.write(block)


def _columns(outcomes: Sequence[Outcome]) -> dict[str, str]:
    kept = [(o, o.stored) for o in outcomes if o.stored is not None]
    return {
        "article_ids": texts([o.task.article_id for o, _ in kept]),
        "versions": numbers([o.task.version for o, _ in kept]),
        "hashes": raw([o.task.text_hash for o, _ in kept]),
        "chunks": numbers([len(stored.starts) for _, stored in kept]),
        "tokens": numbers([stored.tokens for _, stored in kept]),
    }
