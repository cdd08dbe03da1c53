"""Recall of the index that search uses, sampled while it serves: one stored vector at a time, compared with the exact answer."""

from __future__ import annotations

from typing import NamedTuple

from .database import Database
from .index import Index
from .models import Models
from .queries import QUERIES

K = 10


class Recall(NamedTuple):
    """`recall`: the mean over `samples` of the last day, None before the first. `kind`: vector, halfvec or bits."""

    model: str
    kind: str
    recall: float | None
    samples: int


def sample(database: Database) -> bool:
    """Ask once, exactly and by the index, and keep what share of the exact ten the index found. False: there is no index to ask."""
    index = _index(database)
    if index is None:
        return False
    found = index.recall(K, samples=1)
    kept = {"model_id": index.model.id, "kind": index.state()["kind"], "recall": found["recall"]}
    database.execute(QUERIES.keep_recall, kept)
    return True


def lately(database: Database) -> Recall | None:
    """None: the active model has no index, so every search is exact."""
    index = _index(database)
    if index is None:
        return None
    kind = index.state()["kind"]
    row = database.one(QUERIES.recall_lately, {"model_id": index.model.id, "kind": kind}) or {}
    return Recall(str(index.model), kind, row["recall"], row["samples"])


def _index(database: Database) -> Index | None:
    model = Models(database).active()
    index = Index(database, model) if model else None
    return index if index and index.state()["state"] == "built" else None
