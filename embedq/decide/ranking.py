"""Combines two rankings: by meaning (cosine) and by words (BM25).

To add ranks, as reciprocal rank fusion does, costs a good model its first places: questions in a person's own words share many
frequent words with wrong articles. So the scores are added, those of words with less weight, and words come first only for a look-up: a
name or code, or one or two words, that hardly any article has. A model that itself compares words only has scores that say too little; there
ranks are added. How the numbers were chosen, and what they do on questions they were not chosen on: docs/why/search.rst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

# What the best match of all words adds, where 1 is the distance from the most similar article to the twentieth.
WORDS_ADD: Final = 0.4
COMPARED: Final = 20
# A word is rare that at most so many articles have, and at most this share of all.
RARE: Final = 10
RARE_SHARE: Final = 0.01
# A question of at most so many words is a look-up, in an article that has so much of their weight.
LOOK_UP_TERMS: Final = 2
NEARLY_ALL: Final = 0.9
# For ranks that are added: the first place counts 1 / (1 + this); and what a place by such a model counts, where one by words counts 1.
RANK_FROM: Final = 3
RANK_BY_MODEL: Final = 0.5


class Words(NamedTuple):
    """How an article matches the words of a question. `score`: BM25. `share`: of the weight of all words that some article has, what
    this article's words have, 0 to 1. `rarest`: how many articles have the rarest of its words; `rarest_name`: the same of its
    identifiers and codes, None when the question has none that it has. `terms`: words of the question that some article has;
    `articles`: how many articles there are."""

    score: float
    share: float
    rarest: int
    rarest_name: int | None = None
    terms: int = 1
    articles: int = 1

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Words:
        return cls(*(row[name] for name in cls._fields))

    @property
    def trusted(self) -> bool:
        rare = max(1, min(RARE, RARE_SHARE * self.articles))
        by_name = self.rarest_name is not None and self.rarest_name <= rare
        return by_name or (self.terms <= LOOK_UP_TERMS and self.rarest <= rare and self.share >= NEARLY_ALL)


def mixed(near: Sequence[str], cosines: Mapping[str, float], words: Mapping[str, Words], *, lexical: bool = False) -> list[str]:
    """Keys of `cosines`, best first: those whose words are trusted, by words, then the others; among equals by key.

    `near`: the keys that were found by meaning, best first. `lexical`: the model compares words only.
    """
    worth = _by_ranks(near, words) if lexical else _by_scores(near, cosines, words)

    def place(key: str) -> tuple[bool, float, str]:
        found = words.get(key)
        if found is not None and found.trusted:
            return False, -found.score, key
        return True, -worth[key], key

    return sorted(cosines, key=place)


def _by_scores(near: Sequence[str], cosines: Mapping[str, float], words: Mapping[str, Words]) -> dict[str, float]:
    compared = [cosines[key] for key in near[:COMPARED]]
    least = min(compared, default=0.0)
    width = (max(compared, default=0.0) - least) or 1.0
    top = max((each.score for each in words.values()), default=0.0) or 1.0
    by_words = {key: each.score / top for key, each in words.items()}
    return {key: (cosine - least) / width + WORDS_ADD * by_words.get(key, 0.0) for key, cosine in cosines.items()}


def _by_ranks(near: Sequence[str], words: Mapping[str, Words]) -> dict[str, float]:
    by_words = sorted(words, key=lambda key: (-words[key].score, key))
    worth = dict.fromkeys([*near, *by_words], 0.0)
    for ranking, weight in ((near, RANK_BY_MODEL), (by_words, 1.0)):
        for rank, key in enumerate(ranking, start=1):
            worth[key] += weight / (RANK_FROM + rank)
    return worth


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Share of the first k keys that both rankings have, 0 to 1; if both have fewer than k, of the length of the longer one."""
    first, second = set(one[:k]), set(other[:k])
    most = max(len(first), len(second))
    return len(first & second) / most if most else 1.0
