"""Search: the articles nearest to a vector, by the index when there is one, and the same mixed with a search by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..decide.ranking import Words, mixed
from ..model import Model
from .database import Connection, Database, Row
from .filters import as_json
from .queries import QUERIES

# Candidates read per wanted result: an article's chunks are near each other, and several may be among the nearest.
CHUNKS_PER_RESULT: Final = 8
MOST_CANDIDATES: Final = 20_000
WIDEST: Final = 1000
# Ranking by words: words of a question that are looked for, articles up to which a word's frequency is counted, articles ranked exactly.
MOST_TERMS: Final = 32
FREQUENT: Final = 5_000
RANKED: Final = 100
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
        self,
        model: Model,
        query: Any,
        k: int,
        *,
        tenant_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        sources: Sequence[str] | None = (),
    ) -> list[Row]:
        """The k articles nearest to the vector `query`, shape (dimensions,), by cosine, best first, each with its best chunk.

        `sources`: names; none means what was written as articles, None everything.
        """
        asked = _asked(query, k, tenant_id, metadata, sources)
        parts = {"tenant": QUERIES.search_tenant if tenant_id else "TRUE", "filter": QUERIES.search_filter if metadata else ""}
        parts |= {"near_source": _near(sources), "of_source": _of(sources, "a")}
        candidates = k * CHUNKS_PER_RESULT
        while True:
            rows = self._look(of_model(QUERIES.search, model, candidates=str(candidates), **parts), asked, candidates)
            enough = len(rows) >= k or not rows or rows[0]["seen"] < candidates or candidates >= MOST_CANDIDATES
            if enough:
                return [row for row in rows if min_score is None or row["score"] >= min_score]
            candidates = min(MOST_CANDIDATES, candidates * 8)

    def mixed(
        self,
        model: Model,
        query: Any,
        words: str,
        k: int,
        *,
        tenant_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        sources: Sequence[str] | None = (),
    ) -> list[Row]:
        """The best k by meaning and by words together (decide/ranking.py); `score` stays the cosine."""
        depth = max(2 * k, 20)
        by_words = self.matches(words, depth, tenant_id, metadata, sources)
        found_near = self.nearest(model, query, depth, tenant_id=tenant_id, metadata=metadata, sources=sources)
        near = {row["article_id"]: row for row in found_near}
        others = [row["article_id"] for row in by_words if row["article_id"] not in near]
        rows = near | self._best_chunks(model, query, others, tenant_id)
        cosines = {key: row["score"] for key, row in rows.items()}
        order = mixed(list(near), cosines, {row["article_id"]: Words.of(row) for row in by_words})
        found = [rows[key] for key in order]
        return [row for row in found if min_score is None or row["score"] >= min_score][:k]

    def by_words(
        self,
        model: Model,
        query: Any,
        words: str,
        k: int,
        *,
        tenant_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        sources: Sequence[str] | None = (),
    ) -> list[Row]:
        """The best k by words alone, of those that the model has vectors of; `score` is the cosine of the best chunk."""
        found = [row["article_id"] for row in self.matches(words, k, tenant_id, metadata, sources)]
        rows = self._best_chunks(model, query, found, tenant_id)
        return [rows[key] for key in found if key in rows]

    def matches(
        self,
        words: str,
        k: int,
        tenant_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        sources: Sequence[str] | None = (),
    ) -> list[Row]:
        """The k articles that match these words best: `article_id`, and what decide.ranking.Words says of each."""
        built = self.database.one(QUERIES.words_indexed)
        indexed = built is not None and built["built"]
        every, matching = ("", QUERIES.words_by_index) if indexed else (QUERIES.words_of_all, QUERIES.words_by_scan)
        filtered = _filter_of("v.id") if metadata else ""
        statement = QUERIES.by_words.replace("{every}", every).replace("{matching}", matching).replace("{filter}", filtered)
        statement = statement.replace("{of_source}", _of(sources, "v"))
        # PostgreSQL takes no NUL, which is no word either.
        asked = {
            "words": words.replace("\0", " "),
            "k": k,
            "terms": MOST_TERMS,
            "frequent": FREQUENT,
            "ranked": RANKED,
            "tenant_id": tenant_id,
            "metadata": as_json(metadata),
            "sources": list(sources or ()),
        }
        return self.database.fetch(statement, asked)

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
    """For this transaction: hnsw.ef_search for that many candidates, and iterative scans while a filter leaves too few."""
    connection.execute(QUERIES.search_settings, {"width": str(max(40, min(candidates, WIDEST)))})


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _asked(
    query: Any, k: int, tenant_id: str | None, metadata: Mapping[str, Any] | None, sources: Sequence[str] | None
) -> dict[str, Any]:
    return {
        "query": literal(query),
        "k": k,
        "tenant_id": tenant_id,
        "metadata": as_json(metadata),
        "sources": list(sources or ()),
    }


def _near(sources: Sequence[str] | None) -> str:
    if sources is None:
        return ""
    return QUERIES.near_sources if sources else QUERIES.near_articles


def _of(sources: Sequence[str] | None, articles: str) -> str:
    """The condition on the rows of article_texts, which stand under the name `articles`."""
    if sources is None:
        return "TRUE"
    condition: str = QUERIES.of_sources if sources else QUERIES.of_articles
    return condition.replace("a.source", f"{articles}.source")


def _filter_of(article: str) -> str:
    filtered: str = QUERIES.search_filter
    return filtered.replace("v.article_id", article)
