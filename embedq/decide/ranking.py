"""Two rankings made one. Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion", SIGIR 2009 (k = 60)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

SMOOTHING: Final = 60


def fused(*rankings: Sequence[str]) -> list[str]:
    """Keys of all rankings, best first: each ranking gives its r-th key 1 / (60 + r) points (r from 1). Equal ones by key."""
    points: dict[str, float] = defaultdict(float)
    for ranking in rankings:
        for place, key in enumerate(ranking, 1):
            points[key] += 1 / (SMOOTHING + place)
    return sorted(points, key=lambda key: (-points[key], key))


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Share of the first k keys that both rankings have, 0 to 1; of as many as the longer one has, when both have fewer."""
    first, second = set(one[:k]), set(other[:k])
    most = max(len(first), len(second))
    return len(first & second) / most if most else 1.0
