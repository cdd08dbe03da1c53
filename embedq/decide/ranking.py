"""Two rankings made one: by meaning (cosine) and by words (BM25).

To add ranks, as reciprocal rank fusion does, costs a good model its first places: questions in a person's own words share many
frequent words with wrong articles. So words add to the cosine in proportion to how much of the question they cover, and come
before it only where the question has a word that hardly any article has, such as an identifier. What that gains and what it costs on questions it was not
fitted to: docs/why/search.rst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

# What the best match of all words adds, where 1 is the distance from the least to the most similar article found.
WORDS_ADD: Final = 0.5
# A word that at most so many articles have is trusted, in an article that has so much of the weight of the question's words; an identifier
# or a code (XK-4711, heapq.nlargest) in any.
RARE: Final = 10
NEARLY_ALL: Final = 0.9


class Words(NamedTuple):
    """How an article matches the words of a question. `score`: BM25. `share`: of the weight of all words that some article has, what
    this article's words have, 0 to 1. `rarest`: how many articles have the rarest of its words; `rarest_name`: the same of its
    identifiers and codes, None when the question has none that it has."""

    score: float
    share: float
    rarest: int
    rarest_name: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Words:
        return cls(row["score"], row["share"], row["rarest"], row["rarest_name"])

    @property
    def trusted(self) -> bool:
        by_name = self.rarest_name is not None and self.rarest_name <= RARE
        return by_name or (self.rarest <= RARE and self.share >= NEARLY_ALL)


def mixed(near: Sequence[str], cosines: Mapping[str, float], words: Mapping[str, Words]) -> list[str]:
    """Keys of `cosines`, best first: those whose words are trusted, by words, then the others; among equals by key.

    `near`: the keys that were found by meaning, which say what is near and what is far among these articles.
    """
    least, most = (choose((cosines[key] for key in near), default=0.0) for choose in (min, max))
    width = (most - least) or 1.0
    top = max((each.score for each in words.values()), default=0.0) or 1.0

    def place(key: str) -> tuple[bool, float, str]:
        nearness = (cosines[key] - least) / width
        found = words.get(key)
        if found is None:
            return True, -nearness, key
        if found.trusted:
            return False, -found.score, key
        return True, -nearness - WORDS_ADD * found.share * found.score / top, key

    return sorted(cosines, key=place)


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Share of the first k keys that both rankings have, 0 to 1; of as many as the longer one has, when both have fewer."""
    first, second = set(one[:k]), set(other[:k])
    most = max(len(first), len(second))
    return len(first & second) / most if most else 1.0
