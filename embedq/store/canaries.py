"""The vectors of the canary by model, and which models make other ones now (`decide.sameness`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..decide.sameness import LOOK_AGAIN_S, UNCONFIRMED_S, Swapped
from .database import Database, Row
from .queries import QUERIES

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np


class Kept(NamedTuple):
    """`vector`, shape (dimensions,), float32: what the model made of the canary when it was first asked, or was accepted; None when it was never
    asked while it was as before."""

    vector: np.ndarray | None
    made_at: datetime
    swapped: Swapped | None


class Canaries:
    def __init__(self, database: Database) -> None:
        self.database = database

    def of(self, model_id: int) -> Kept | None:
        import numpy as np

        row = self.database.one(QUERIES.canary_of, {"model_id": model_id})
        if row is None:
            return None
        vector = None if row["embedding"] is None else np.array(row["embedding"], dtype=np.float32)
        return Kept(vector, row["made_at"], _swapped(row) if row["since"] else None)

    def keep(self, model_id: int, vector: np.ndarray) -> bool:
        """The first time that a model was asked. False: another process was first, and its vector counts."""
        asked = {"model_id": model_id, "embedding": vector.tolist()}
        return self.database.execute(QUERIES.keep_canary, asked) > 0

    def accept(self, model_id: int, vector: np.ndarray) -> None:
        """From now on this is the vector that counts, and nothing is held against the model."""
        self.database.execute(QUERIES.accept_canary, {"model_id": model_id, "embedding": vector.tolist()})

    def same(self, model_id: int) -> None:
        """It was seen to be as before. What others hold against the model stays."""
        self.database.execute(QUERIES.canary_is_same, {"model_id": model_id})

    def same_again(self, model_id: int) -> bool:
        """By a process that may say so (`may_look`). True when another vector was held against the model until now."""
        return self.database.execute(QUERIES.canary_is_same_again, {"model_id": model_id}) > 0

    def differs(self, model_id: int, cosine: float, server: str, worker: str) -> bool:
        """Another vector was seen. True for the process that saw it first."""
        asked = {"model_id": model_id, "cosine": cosine, "server": server, "worker": worker}
        self.database.execute(QUERIES.canary_without_vector, {"model_id": model_id})
        row = self.database.one(QUERIES.canary_differs, asked)
        return row is not None and row["news"]

    def may_look(self, model_id: int, server: str) -> bool:
        """Whether this process looks whether the former model is back: one of those that use the server that had another; any, when none of them
        has looked for a while."""
        asked = {"model_id": model_id, "server": server, "again_s": LOOK_AGAIN_S, "unconfirmed_s": UNCONFIRMED_S}
        return self.database.execute(QUERIES.may_look_at_canary, asked) > 0

    def swapped(self, model_id: int | None = None) -> list[Swapped]:
        """Models for which nothing is stored, by id."""
        return [_swapped(row) for row in self.database.fetch(QUERIES.swapped_models, {"model_id": model_id})]


def _swapped(row: Row) -> Swapped:
    return Swapped(**{name: row[name] for name in Swapped.__slots__})
