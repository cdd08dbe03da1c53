"""Search: the articles nearest to a vector, by the index when there is one, and the same mixed with a search by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..decide.ranking import COMPARED, Words, mixed
from ..errors import NotWell
from ..model import Model
from .database import Connection, Database, Row
from .filters import as_json
from .queries import QUERIES
from .storage import BITS_CANDIDATES, Storages

if TYPE_CHECKING:
    import numpy as np

# Candidates read per wanted result: an article's chunks are near each other, and several may be among the nearest.
CHUNKS_PER_RESULT: Final = 8
MOST_CANDIDATES: Final = 20_000
WIDEST: Final = 1000
# Ranking by words: words of a question that are looked for, articles up to which a word's frequency is counted, articles ranked exactly.
MOST_TERMS: Final = 32
FREQUENT: Final = 5_000
RANKED: Final = 100
# Providers whose vectors compare words and no more.
LEXICAL: Final = ("hashing",)
# The first pgvector that goes on with an index scan until a filter is satisfied.
ITERATES_FROM: Final = (0, 8)


def literal(vector: Any) -> str:
    """A vector of shape (dimensions,) as pgvector reads it."""
    return "[" + ",".join(repr(float(number)) for number in vector) + "]"


class Search:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._storages = Storages(database)
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
        storage = self._storages.of(model)
        candidates = k * CHUNKS_PER_RESULT * (BITS_CANDIDATES if storage.bits else 1)
        while True:
            rows = self._look(storage.of(QUERIES.search, model, candidates=str(candidates), **parts), asked, candidates)
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
        depth = max(2 * k, COMPARED)
        found_near = self.nearest(model, query, depth, tenant_id=tenant_id, metadata=metadata, sources=sources)
        near = {row["article_id"]: row for row in found_near}
        by_words = self.matches(words, RANKED + depth, tenant_id, metadata, sources, near=[*near])
        others = [row["article_id"] for row in by_words[:depth] if row["article_id"] not in near]
        rows = near | self._best_chunks(model, query, others, tenant_id)
        cosines = {key: row["score"] for key, row in rows.items()}
        matching = {row["article_id"]: Words.of(row) for row in by_words if row["article_id"] in rows}
        order = mixed([*near], cosines, matching, lexical=model.provider in LEXICAL)
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
        near: Sequence[str] = (),
    ) -> list[Row]:
        """The k articles that match these words best: `article_id`, and what decide.ranking.Words says of each. Those in `near` are looked
        at too, however many others have more of the words."""
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
            "near": list(near),
            "tenant_id": tenant_id,
            "metadata": as_json(metadata),
            "sources": list(sources or ()),
        }
        return self.database.fetch(statement, asked)

    def vectors(self, model: Model, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Of the chunks that were found, in the order of the rows: shape (len(rows), dimensions), unit length."""
        asked = {"ids": [row["article_id"] for row in rows], "starts": [row["starts_at"] for row in rows]}
        found = self.database.fetch(self._storages.of(model).of(QUERIES.vectors_of_chunks, model), asked)
        if len(found) != len(rows):
            raise NotWell("articles were embedded anew meanwhile", hint="search once more")
        return _unit([row["vector"] for row in found])

    def vector_of(self, model: Model, article_id: str) -> np.ndarray | None:
        """The mean of an article's vectors, shape (dimensions,), unit length; None when it has none."""
        statement = self._storages.of(model).of(QUERIES.vector_of_article, model)
        row = self.database.one(statement, {"article_id": article_id})
        found: np.ndarray | None = _unit([row["vector"]])[0] if row and row["vector"] else None
        return found

    def sampled(self, model: Model, limit: int) -> np.ndarray:
        """Vectors of articles taken at random, shape (so many, dimensions), unit length."""
        rows = self.database.fetch(self._storages.of(model).of(QUERIES.sample_vectors, model), {"limit": limit})
        return _unit([row["query"] for row in rows])

    def _best_chunks(self, model: Model, query: Any, ids: list[str], tenant_id: str | None) -> dict[str, Row]:
        if not ids:
            return {}
        asked = {"ids": ids, "query": literal(query), "tenant_id": tenant_id}
        return {
            row["article_id"]: row
            for row in self.database.fetch(self._storages.of(model).of(QUERIES.best_chunks, model), asked)
        }

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


def _unit(literals: Sequence[str]) -> np.ndarray:
    """As pgvector writes vectors."""
    import numpy as np

    vectors = np.array([text[1:-1].split(",") for text in literals], dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    made: np.ndarray = vectors / np.where(norms == 0, 1, norms)
    return made
