"""The vectors which the stand-in answers with. Tests call `vector_of` to know what must have been stored."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import numpy as np

# Noise to cut vectors from: what a real provider computes elsewhere must not load the machine that measures.
PLACES = 1 << 20
LONGEST = 16_384


@cache
def _noise() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(20)).standard_normal(PLACES + LONGEST, dtype=np.float32)


def vector_of(text: str, dimensions: int) -> np.ndarray:
    """The unit vector of a text, shape (dimensions,), float32. Depends on nothing else: not on the model, not on the batch."""
    seed = int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    one, other = seed % PLACES, seed // PLACES % PLACES
    numbers = _noise()[one : one + dimensions] - 2 * _noise()[other : other + dimensions]
    found: np.ndarray = numbers / np.sqrt(numbers @ numbers)
    return found


def tokens_of(text: str) -> int:
    """What the stand-in charges for a text: a token per four bytes of UTF-8, begun ones too."""
    return max(1, -(-len(text.encode("utf-8", "surrogatepass")) // 4))
