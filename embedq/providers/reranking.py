"""Rerankers: what reads a question and passages together and says how well each answers it, better and slower than vectors.

A package adds one by an entry point of the group `embedq.rerankers`: its name is the reranker's, its value a callable without
arguments that returns a `Reranker`. embedq has none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from math import isfinite
from typing import Final, Protocol, TypeVar, cast

from ..errors import InputError, RerankerFailed
from .secrets import mask

ENTRY_POINT_GROUP: Final = "embedq.rerankers"

T = TypeVar("T")


class Reranker(Protocol):
    """May be called from several threads at once."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """One finite number for each text, in order; the higher, the better the text answers the query."""
        ...


def reranker(name: str) -> Reranker:
    """Raises InputError for a name that no package registers, RerankerFailed when the package cannot be loaded."""
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none is installed"
        raise InputError(f"there is no reranker {name!r}", hint=f"rerankers that packages register: {known}", field="rerank")
    return _told(name, cast(Callable[[], Reranker], _told(name, points[name].load)))


def best_first(reranker: Reranker, name: str, query: str, texts: Sequence[str]) -> list[int]:
    """Places of the texts, the best first; among equals as they came. Raises RerankerFailed when it fails or does not keep its promise."""
    scores = [float(score) for score in _told(name, lambda: reranker.scores(query, texts))]
    if len(scores) != len(texts) or not all(map(isfinite, scores)):
        raise RerankerFailed(
            f"the reranker {name!r} answered {len(scores)} numbers for {len(texts)} texts, or numbers that are not finite",
            hint="search without it, and tell its author",
        )
    return sorted(range(len(texts)), key=lambda place: (-scores[place], place))


def _told(name: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except Exception as error:
        raise RerankerFailed(
            f"the reranker {name!r} failed: {mask(f'{type(error).__name__}: {error}')}",
            hint="search without it, or repair its package",
        ) from error
