"""Runs judged questions against rankings: by meaning with one or several models, by words, by both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from .. import wiring
from ..decide.quality import DEPTH, Judged, Score, places, score
from ..model import Role

if TYPE_CHECKING:
    from ..model import Model
    from ..settings import Settings
    from ..store import Store


class Ranking(StrEnum):
    """How articles are ranked."""

    MEANING = "meaning"
    WORDS = "words"
    HYBRID = "hybrid"


class Run(NamedTuple):
    """One ranking over all questions. `places`: of the right articles among the first ten, question by question."""

    model: Model
    ranking: Ranking
    places: list[list[int]]
    score: Score


def run(settings: Settings, store: Store, model: Model, asked: Sequence[Judged], rankings: Sequence[Ranking]) -> list[Run]:
    """Every question by every ranking. Each model is asked with its own query vectors. Raises the provider's Fault."""
    with closing(wiring.provider_factory(settings, Role.QUERY)(model)) as provider:
        vectors = provider.embed([each.question for each in asked]).vectors
    found: dict[Ranking, list[list[int]]] = {ranking: [] for ranking in rankings}
    for each, vector in zip(asked, vectors, strict=True):
        for ranking in rankings:
            found[ranking].append(_places(store, model, each, vector, ranking))
    right = [len(each.articles) for each in asked]
    return [Run(model, ranking, those, score(those, right)) for ranking, those in found.items()]


def _places(store: Store, model: Model, each: Judged, vector: object, ranking: Ranking) -> list[int]:
    search, tenant = store.search, each.tenant_id
    match ranking:
        case Ranking.MEANING:
            rows = search.nearest(model, vector, DEPTH, tenant_id=tenant)
        case Ranking.WORDS:
            rows = search.by_words(model, vector, each.question, DEPTH, tenant_id=tenant)
        case Ranking.HYBRID:
            rows = search.mixed(model, vector, each.question, DEPTH, tenant_id=tenant)
    return places([(row["article_id"], row["slug"] or "") for row in rows], each.articles)
