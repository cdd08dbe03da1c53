"""Search: the articles nearest to a vector, by the index when there is one, and the same mixed with a search by words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from ..decide.filters import check_filter
from ..decide.ranking import fused
from ..model import Model
from .database import Connection, Database, Row
from .queries import QUERIES

# Candidates read per wanted result: an article's chunks are near each other, and several may be among the nearest.
CHUNKS_PER_RESULT: Final = 8
MOST_CANDIDATES: Final = 20_000
WIDEST: Final = 1000
RANKED: Final = 500
# What pgvector's HNSW can index; beyond the second nothing is indexed, and every search is exact.
MOST_FOR_VECTOR: Final = 2000
MOST_FOR_HALFVEC: Final = 4000
# The first pgvector that goes on with an index scan until a filter is satisfied.
ITERATES_FROM: Final = (0, 8)


def cast_of(dimensions: int) -> str:
    """The type whose order is searched, and indexed: half precision where full precision is too long for an index."""
    return "halfvec" if MOST_FOR_VECTOR < dimensions <= MOST_FOR_HALFVEC else "vector"


def of_model(text: str, model: Model, **more: str) -> str:
    """A statement with the model's table, type and dimensions in their places."""
    values = {
        "table": f"embedding_vectors_{model.id}",
        "cast": cast_of(model.dimensions),
        "dimensions": str(model.dimensions),
    } | more
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def literal(vector: Any) -> str:
    """A vector of shape (dimensions,) as pgvector reads it."""
    return "[" + ",".join(repr(float(number)) for number in vector) + "]"


class Search:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._iterates: bool | None = None

    def nearest(
        self, model: Model, query: Any, k: int, *, tenant_id: str | None = None, metadata: Mapping[str, Any] | None = None,
        min_score: float | None = None,
    ) -> list[Row]:  # fmt: skip
        """The k articles nearest to the vector `query`, shape (dimensions,), by cosine, best first, each with its best chunk."""
        asked = _asked(query, k, tenant_id, metadata)
        parts = {"tenant": QUERIES.search_tenant if tenant_id else "TRUE", "filter": QUERIES.search_filter if metadata else ""}
        candidates = k * CHUNKS_PER_RESULT
        while True:
            rows = self._look(of_model(QUERIES.search, model, candidates=str(candidates), **parts), asked, candidates)
            enough = len(rows) >= k or not rows or rows[0]["seen"] < candidates or candidates >= MOST_CANDIDATES
            if enough:
                return [row for row in rows if min_score is None or row["score"] >= min_score]
            candidates = min(MOST_CANDIDATES, candidates * 8)

    def mixed(
        self, model: Model, query: Any, words: str, k: int, *, tenant_id: str | None = None, metadata: Mapping[str, Any] | None = None,
        min_score: float | None = None,
    ) -> list[Row]:  # fmt: skip
        """The best k of both rankings, by meaning and by words (reciprocal rank fusion); `score` stays the cosine."""
        depth = max(2 * k, 20)
        by_meaning = {
            row["article_id"]: row for row in self.nearest(model, query, depth, tenant_id=tenant_id, metadata=metadata)
        }
        by_words = self._by_words(words, depth, tenant_id, metadata)
        order = fused(list(by_meaning), by_words)
        rows = by_meaning | self._best_chunks(model, query, [key for key in order if key not in by_meaning], tenant_id)
        found = [rows[key] for key in order if key in rows]
        return [row for row in found if min_score is None or row["score"] >= min_score][:k]

    def _by_words(self, words: str, k: int, tenant_id: str | None, metadata: Mapping[str, Any] | None) -> list[str]:
        statement = QUERIES.by_words.replace("{filter}", _filter_of("v.id") if metadata else "")
        # PostgreSQL takes no NUL, which is no word either.
        asked = {
            "words": words.replace("\0", " "),
            "k": k,
            "ranked": RANKED,
            "tenant_id": tenant_id,
            "metadata": _as_json(metadata),
        }
        return [row["article_id"] for row in self.database.fetch(statement, asked)]

    def _best_chunks(self, model: Model, query: Any, ids: list[str], tenant_id: str | None) -> dict[str, Row]:
        if not ids:
            return {}
        asked = {"ids": ids, "query": literal(query), "tenant_id": tenant_id}
        return {row["article_id"]: row for row in self.database.fetch(of_model(QUERIES.best_chunks, model), asked)}

    def _look(self, statement: str, asked: Mapping[str, Any], candidates: int) -> list[Row]:
        if not self._may_iterate():
            return self.database.fetch(statement, asked)
        with self.database.transaction() as connection:
            iterate(connection, candidates)
            return connection.execute(statement, asked).fetchall()

    def _may_iterate(self) -> bool:
        if self._iterates is None:
            row = self.database.one("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            self._iterates = row is not None and version_of(row["extversion"]) >= ITERATES_FROM
        return self._iterates


def iterate(connection: Connection, candidates: int) -> None:
    """For this transaction: walk an HNSW index as widely as `candidates` need, and on while a filter leaves too few."""
    connection.execute(QUERIES.search_settings, {"width": str(max(40, min(candidates, WIDEST)))})


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def as_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Values as they are compared: as PostgreSQL writes a JSON value as text. Raises InputError for what cannot be compared."""
    check_filter(metadata)
    return {key: _as_text(value) for key, value in metadata.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # PostgreSQL writes 1e-07 as 0.0000001
    return value if isinstance(value, str) else json.dumps(value)


def _asked(query: Any, k: int, tenant_id: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"query": literal(query), "k": k, "tenant_id": tenant_id, "metadata": _as_json(metadata)}


def _as_json(metadata: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(metadata or {}))


def _filter_of(article: str) -> str:
    filtered: str = QUERIES.search_filter
    return filtered.replace("v.article_id", article)
