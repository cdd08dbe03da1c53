"""From a query's vector to the rows that answer it: ranked, folded, reranked, made diverse, and cut to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..decide.answers import RERANKED, Wanted, diverse, folded
from ..providers.reranking import best_first, reranker

if TYPE_CHECKING:
    from ..model import Model
    from ..providers.reranking import Reranker
    from ..store import Store

Row = Mapping[str, Any]


class Answering:
    """With the rerankers that were asked for. `apart` does what lasts and knows no event loop."""

    def __init__(self, apart: Callable[[Callable[[], list[int]]], list[int]] = lambda work: work()) -> None:
        self._apart = apart
        self._rerankers: dict[str, Reranker] = {}

    def rows(
        self,
        store: Store,
        model: Model,
        vector: Any,
        query: str,
        wanted: Wanted,
        wishes: Mapping[str, Any],
        *,
        without: str | None = None,
    ) -> list[Row]:
        """`vector`: shape (dimensions,). `wishes`: what Search.nearest takes. `without`: an article that is no answer."""
        search, window = store.search, wanted.window + (without is not None)
        ranking = (
            search.mixed(model, vector, query, window, **wishes)
            if wanted.hybrid
            else search.nearest(model, vector, window, **wishes)
        )
        rows: list[Row] = [row for row in ranking if row["article_id"] != without]
        if wanted.fold:
            rows = [*folded(rows)]
        if wanted.rerank:
            rows = self._reranked(wanted.rerank, query, rows)
        if wanted.diversity:
            rows = _diverse(store, model, rows, wanted)
        return rows[wanted.page]

    def _reranked(self, name: str, query: str, rows: list[Row]) -> list[Row]:
        head, rest = rows[:RERANKED], rows[RERANKED:]
        texts = [passage(row) for row in head]
        order = self._apart(lambda: best_first(self._reranker(name), name, query, texts))
        return [head[place] for place in order] + rest

    def _reranker(self, name: str) -> Reranker:
        if name not in self._rerankers:
            self._rerankers[name] = reranker(name)
        return self._rerankers[name]


def passage(row: Row) -> str:
    """The part of the article's text that was found."""
    return text_of(row)[row["starts_at"] : row["ends_at"]]


def text_of(row: Row) -> str:
    """What is cut into chunks: title and content."""
    return f"{row['title']}\n\n{row['content']}".strip()


def _diverse(store: Store, model: Model, rows: Sequence[Row], wanted: Wanted) -> list[Row]:
    """A ranking that was not made by cosine counts by its places."""
    if not rows:
        return []
    vectors = store.search.vectors(model, rows)
    by_place = wanted.hybrid or wanted.rerank
    scores = [1 - place / len(rows) for place in range(len(rows))] if by_place else [row["score"] for row in rows]
    return [rows[place] for place in diverse(scores, vectors, wanted.diversity, wanted.page.stop)]
