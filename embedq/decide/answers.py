"""What is made of a ranking before it is answered: pages, duplicates folded, results that are not all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np

MOST_RESULTS: Final = 1000
# Pages, folding, diversity and reranking begin with a ranking of so many articles, whichever page is asked for.
WINDOW: Final = 200
# As many of them are given to a reranker.
RERANKED: Final = 50


class Wanted(NamedTuple):
    """How many results, and of what kind. `offset`: how many results stand before the page; None: no pages are asked for.
    `diversity`: 0 (the most similar results) to 1 (results as different from each other as can be)."""

    k: int
    hybrid: bool = False
    offset: int | None = None
    fold: bool = False
    diversity: float = 0.0
    rerank: str | None = None

    @property
    def window(self) -> int:
        """How many articles to rank."""
        plain = self.offset is None and not (self.fold or self.diversity or self.rerank)
        return self.k if plain else max(WINDOW, min(MOST_RESULTS, 2 * self.k))

    @property
    def page(self) -> slice:
        first = self.offset or 0
        return slice(first, first + self.k)

    def check(self) -> None:
        """Raises InputError."""
        if not 1 <= self.k <= MOST_RESULTS:
            raise InputError(f"k is {self.k}", hint=f"ask for 1 to {MOST_RESULTS} results", field="k")
        if self.offset is not None and not 0 <= self.offset <= WINDOW - self.k:
            raise InputError(
                f"offset is {self.offset}, and k {self.k}",
                hint=f"pages reach to the {WINDOW}th result; narrow the search by a filter to see others",
                field="offset",
            )
        if not 0 <= self.diversity <= 1:
            raise InputError(f"diversity is {self.diversity}", hint="ask for 0 to 1", field="diversity")


def folded(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of articles with the same content (but for case and white space) the first; `duplicates` has the ids of the others."""
    kept: dict[str, dict[str, Any]] = {}
    for row in rows:
        text = " ".join((row["content"] or row["title"]).casefold().split())
        if text in kept:
            kept[text]["duplicates"].append(row["article_id"])
        else:
            kept[text] = {**row, "duplicates": []}
    return list(kept.values())


def diverse(scores: Sequence[float], vectors: np.ndarray, diversity: float, wanted: int) -> list[int]:
    """Maximal marginal relevance: places in the ranking, each next one the best of (1 - diversity) times its score less diversity times its
    greatest similarity to those before. `vectors`: shape (len(scores), dimensions), unit length.

    Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998.
    """
    import numpy as np

    relevance = (1 - diversity) * np.asarray(scores)
    nearest, left = np.full(len(scores), -1.0), list(range(len(scores)))
    chosen: list[int] = []
    while left and len(chosen) < wanted:
        worth = relevance - (diversity * nearest if chosen else 0.0)
        best = max(left, key=lambda place: (worth[place], -place))
        left.remove(best)
        chosen.append(best)
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen
