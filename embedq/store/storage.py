"""How a model's vectors are stored and indexed: the parts of statements that depend on it."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from ..model import Model
from .database import Database
from .queries import QUERIES

# What pgvector's HNSW can index; beyond the second nothing is indexed, and every search is exact.
MOST_FOR_VECTOR: Final = 2000
MOST_FOR_HALFVEC: Final = 4000
MOST_FOR_BITS: Final = 16_000
# An index that another process has built or dropped is noticed after so long, in seconds.
KNOWN_FOR_S: Final = 5.0
# Of an index of bits so many more candidates are read: their order by Hamming distance is coarse, and what is near is found among them exactly.
BITS_CANDIDATES: Final = 3


class Storage(NamedTuple):
    """`half`: vectors are stored in half precision. `bits`: they are indexed by the signs of their numbers."""

    half: bool = False
    bits: bool = False

    @property
    def column(self) -> str:
        return "half" if self.half else "embedding"

    def cast(self, dimensions: int) -> str:
        """The type whose order is searched, and indexed: half precision also where full precision is too long for an index."""
        return "halfvec" if self.half or MOST_FOR_VECTOR < dimensions <= MOST_FOR_HALFVEC else "vector"

    def order(self, model: Model) -> str:
        """What candidates are ordered by, written as the index has it."""
        cast, d = self.cast(model.dimensions), model.dimensions
        if self.bits:
            return (
                f"binary_quantize(v.{self.column}::{cast}({d}))::bit({d}) <~> binary_quantize(%(query)s::{cast}({d}))::bit({d})"
            )
        return f"v.{self.column}::{cast}({d}) <=> %(query)s::{cast}({d})"

    def indexed(self, model: Model) -> str:
        """The expression of the index with its operator class."""
        cast, d = self.cast(model.dimensions), model.dimensions
        if self.bits:
            return f"(binary_quantize({self.column}::{cast}({d}))::bit({d})) bit_hamming_ops"
        return f"({self.column}::{cast}({d})) {cast}_cosine_ops"

    def of(self, text: str, model: Model, **more: str) -> str:
        """A statement with the model's table, type, order and dimensions in their places."""
        values = {
            "table": f"embedding_vectors_{model.id}",
            "column": self.column,
            "cast": self.cast(model.dimensions),
            "order": self.order(model),
            "indexed": self.indexed(model),
            "dimensions": str(model.dimensions),
        } | more
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        return text


class Storages:
    """What is known of each model's storage; asked anew after a few seconds, because indexes come and go."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._known: dict[int, tuple[float, Storage]] = {}

    def of(self, model: Model) -> Storage:
        seen_at, known = self._known.get(model.id, (0.0, Storage()))
        if not seen_at or time.monotonic() - seen_at > KNOWN_FOR_S:
            known = storage_of(self.database, model)
            self._known[model.id] = time.monotonic(), known
        return known


def storage_of(database: Database, model: Model) -> Storage:
    row = database.one(QUERIES.storage_of, {"model_id": model.id, "index": bits_name(model)})
    return Storage(row["half"], row["bits"]) if row else Storage()


def bits_name(model: Model) -> str:
    """The name of the model's index of bits."""
    return f"embedding_vectors_{model.id}_bits"
