"""The `hashing` provider: built in, offline, deterministic and lexical.

It compares words, not meanings: texts are similar if they share words, parts of words and pairs of words. It is for trials and tests. The
same text gives the same vector in every process and Python version; nothing is learnt, downloaded or stored.

Method: every term and its character n-grams are hashed to signed places among the dimensions (each term to `PLACES` of
them, so that two terms which meet in one place still differ in the others), weighted by 1 + ln(count), the title
counting more than the body, stop words hardly at all; the sum is scaled to unit length.
Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009); Charikar et al., count sketch (2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from math import log
from typing import Final, TypeVar

import numpy as np

from ..errors import ConfigError
from ..model import Model
from . import Embedded, Limits
from .inputs import refuse_unembeddable
from .lexical import COMMON_TERMS, MAX_CHARACTERS, STOP_WORDS, terms
from .limits import estimate_tokens, limits_for

MIN_DIMENSIONS: Final = 16
MAX_DISTINCT_TERMS: Final = 4_096

PLACES: Final = 8
TITLE_COUNTS: Final = 6.0
SUMMARY_COUNTS: Final = 2.0
STOP_WORD_WEIGHT: Final = 0.05
COMMON_WEIGHT: Final = 0.6
NUMBER_WEIGHT: Final = 0.4
PAIR_WEIGHT: Final = 0.6
GRAM_SHARE: Final = 0.1

# One constant per place, which derives PLACES independent hashes from one.
_ODD: Final = tuple(0x9E3779B97F4A7C15 * (place + 1) % 2**64 for place in range(PLACES))

Key = TypeVar("Key")


class HashingProvider:
    """Makes vectors by counting words, without network, key or download. Safe to share between threads."""

    def __init__(self, model: Model) -> None:
        """Raises ConfigError for fewer than 16 dimensions, with which words could not be distinguished."""
        if model.dimensions < MIN_DIMENSIONS:
            raise ConfigError(
                f"hashing cannot make vectors of {model.dimensions} dimensions",
                hint=f"set EMBEDDING_DIMENSIONS to {MIN_DIMENSIONS} or more; 384 is its default",
            )
        self.model = model
        self.limits: Limits = limits_for(model)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One unit vector per text, in order, float32. `tokens` is an estimate.

        Reads the first 200,000 characters and counts the first 4,096 distinct terms of a text. Raises InputRefused for
        a blank text or one with a lone surrogate.
        """
        refuse_unembeddable(texts)
        vectors = np.empty((len(texts), self.model.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = vector_of(text, self.model.dimensions)
        return Embedded(vectors, sum(map(estimate_tokens, texts)))

    def close(self) -> None:
        """No effect: nothing is open."""


def vector_of(text: str, dimensions: int) -> np.ndarray:
    """The unit vector of one text that is not blank, shape (dimensions,), float64."""
    hashes, weights = _features(text)
    vector = _spread(hashes, weights, dimensions)
    length = float(np.linalg.norm(vector))
    if length < 1e-9:  # all terms cancelled each other: use a hash of the whole text
        return vector_of(f"={_hash(text):x}", dimensions)
    unit: np.ndarray = vector / length
    return unit


def _features(text: str) -> tuple[np.ndarray, np.ndarray]:
    counts, pairs = _count(text)
    signatures = [_signature(term) for term in counts]
    scale = [1.0 + log(count) if count > 1.0 else count for count in counts.values()]
    hashes = [hashes for hashes, _ in signatures]
    weights = [weights * times for (_, weights), times in zip(signatures, scale, strict=True)]
    if pairs:
        left = np.array([_hash(first) for first, _ in pairs], dtype=np.uint64)
        right = np.array([_hash(second) for _, second in pairs], dtype=np.uint64)
        hashes.append(_mix(left * np.uint64(3) + right))
        weights.append(PAIR_WEIGHT * np.array([1.0 + log(count) for count in pairs.values()]))
    return np.concatenate(hashes), np.concatenate(weights)


def _count(text: str) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Weighted counts of terms and of pairs of adjacent terms; title and summary count more."""
    counts: dict[str, float] = {}
    pairs: dict[tuple[str, str], float] = {}
    for part, worth in _parts(text):
        found = terms(part)
        _add(counts, found, worth)
        _add(pairs, pairwise(term for term in found if term not in STOP_WORDS), worth)
    return counts, pairs


def _add(counts: dict[Key, float], found: Iterable[Key], worth: float) -> None:
    for key in found:
        if key in counts:
            counts[key] += worth
        elif len(counts) < MAX_DISTINCT_TERMS:
            counts[key] = worth


def _parts(text: str) -> list[tuple[str, float]]:
    """Title (first line), summary (next line) and rest, each with the weight of a word in it."""
    title, _, body = text.strip()[:MAX_CHARACTERS].partition("\n")
    summary, _, rest = body.strip().partition("\n")
    return [(title, TITLE_COUNTS), (summary, SUMMARY_COUNTS), (rest, 1.0)]


def _spread(hashes: np.ndarray, weights: np.ndarray, dimensions: int) -> np.ndarray:
    """Add every feature, with its sign, to one place in each of `PLACES` blocks of dimensions."""
    starts = [place * dimensions // PLACES for place in range(PLACES + 1)]
    vector = np.zeros(dimensions)
    for place in range(PLACES):
        mixed = _mix(hashes + np.uint64(_ODD[place]))
        width = starts[place + 1] - starts[place]
        index = ((mixed >> np.uint64(33)) % np.uint64(width)).astype(np.intp)
        signed = np.where(mixed & np.uint64(1), weights, -weights)
        vector[starts[place] : starts[place + 1]] = np.bincount(index, weights=signed, minlength=width)
    return vector


def _mix(numbers: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, which mixes all bits. Source: Vigna, splitmix64.c."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return mixed


@lru_cache(maxsize=32_768)
def _signature(term: str) -> tuple[np.ndarray, np.ndarray]:
    """The features of one term: itself, and its character n-grams, which share `GRAM_SHARE` of its weight."""
    weight = _weight(term)
    grams = _grams(term)
    if not grams:
        return np.array([_hash(term)], dtype=np.uint64), np.array([weight])
    hashes = np.array([_hash(term), *map(_hash, grams)], dtype=np.uint64)
    weights = np.full(len(hashes), weight * (GRAM_SHARE / len(grams)) ** 0.5)
    weights[0] = weight * (1.0 - GRAM_SHARE) ** 0.5
    return hashes, weights


def _weight(term: str) -> float:
    if term in STOP_WORDS:
        return STOP_WORD_WEIGHT
    if term in COMMON_TERMS:
        return COMMON_WEIGHT
    return NUMBER_WEIGHT if term.isdecimal() or (term.isascii() and len(term) == 1) else 1.0


def _grams(term: str) -> list[str]:
    """The trigrams of the first 64 characters, with the word's beginning and end marked."""
    if len(term) < 4 or term in STOP_WORDS:
        return []
    edged = f"<{term[:64]}>"
    return [f"#{edged[i : i + 3]}" for i in range(len(edged) - 2)]


@lru_cache(maxsize=65_536)
def _hash(term: str) -> int:
    """64 bits of blake2b; unlike the built-in hash(), the same in every process."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
