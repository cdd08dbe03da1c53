"""Measures the quality of rankings with questions whose right answers are known.

The usual measures: hit@k (a right article is among the first k), MRR (the mean of 1 / rank of the first right one, 0 if none was found) and
nDCG@10 with binary relevance.
Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", chapter 8.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from math import log2
from statistics import fmean
from typing import Final, NamedTuple

from ..errors import InputError

DEPTH: Final = 10
QUESTION_MAX: Final = 2_000


class Judged(NamedTuple):
    """A question, and the articles (ids or slugs) that answer it: any of them is right."""

    question: str
    articles: tuple[str, ...]
    tenant_id: str | None = None

    def line(self) -> str:
        """The question as a line of a judgement file."""
        tenant = {"tenant_id": self.tenant_id} if self.tenant_id else {}
        return json.dumps({"question": self.question, "articles": list(self.articles)} | tenant, ensure_ascii=False)


class Score(NamedTuple):
    """Shares and means over `questions`, each 0 to 1."""

    questions: int
    hit_1: float
    hit_5: float
    hit_10: float
    mrr: float
    ndcg_10: float


def read(lines: Iterable[str]) -> list[Judged]:
    """Read JSON lines of `question`, `articles` and optionally `tenant_id`; empty lines are skipped. Raises InputError naming the line."""
    return [_read(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _read(number: int, line: str) -> Judged:
    try:
        found = json.loads(line)
        return judged(found["question"], found["articles"], found.get("tenant_id"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"line {number} is no judged question",
            hint='write one as {"question": "…", "articles": ["id or slug", …]}, or by `embedq quality add`',
        ) from None


def judged(question: object, articles: object, tenant_id: object = None) -> Judged:
    """From a JSON value. Raises ValueError for a blank or very long question, or no articles."""
    if not isinstance(question, str) or not 0 < len(question.strip()) <= QUESTION_MAX:
        raise ValueError(f"a question has 1 to {QUESTION_MAX} characters")
    if not isinstance(articles, (list, tuple)) or not articles or not all(isinstance(key, str) and key for key in articles):
        raise ValueError("name at least one article, by id or slug")
    if tenant_id is not None and not isinstance(tenant_id, str):
        raise ValueError("a tenant is a string")
    return Judged(question, tuple(articles), tenant_id or None)


def places(ranking: Sequence[Collection[str]], right: Collection[str]) -> list[int]:
    """The ranks, from 1, of the right articles. `ranking`: for each result its names (id, slug)."""
    wanted = set(right)
    return [place for place, names in enumerate(ranking, start=1) if not wanted.isdisjoint(names)]


def score(found: Sequence[Sequence[int]], right: Sequence[int]) -> Score:
    """The scores. `found`: ranks of the right articles, by question; `right`: number of right articles, by question."""
    if not found:
        return Score(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    first = [min(each, default=0) for each in found]
    hit_1, hit_5, hit_10 = (fmean(0 < place <= k for place in first) for k in (1, 5, 10))
    mrr = fmean(1 / place if place else 0.0 for place in first)
    return Score(
        len(found), hit_1, hit_5, hit_10, mrr, fmean(_ndcg(each, many) for each, many in zip(found, right, strict=True))
    )


def _ndcg(places: Sequence[int], right: int) -> float:
    gained = sum(1 / log2(place + 1) for place in places if place <= DEPTH)
    return gained / sum(1 / log2(place + 1) for place in range(1, min(right, DEPTH) + 1))


def won_and_lost(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Number of questions whose first right article ranks higher in `other` than in `one`, and number where it ranks lower."""
    pairs = [(_first(a), _first(b)) for a, b in zip(one, other, strict=True)]
    won = [number for number, (a, b) in enumerate(pairs) if b < a]
    lost = [number for number, (a, b) in enumerate(pairs) if b > a]
    return won, lost


def _first(places: Sequence[int]) -> float:
    return min(places, default=float("inf"))
