"""The vectors which the stand-in answers with. Tests call `vector_of` to know what must have been stored."""

from __future__ import annotations

from hashlib import sha256, shake_256

import numpy as np


def vector_of(text: str, dimensions: int) -> np.ndarray:
    """The unit vector of a text, shape (dimensions,), float32. Depends on nothing else: not on the model, not on the batch."""
    seed = sha256(text.encode("utf-8", "surrogatepass")).digest()
    numbers = np.frombuffer(shake_256(seed).digest(4 * dimensions), dtype="<i4").astype(np.float64)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def tokens_of(text: str) -> int:
    """What the stand-in charges for a text: a token per four bytes of UTF-8, begun ones too."""
    return max(1, -(-len(text.encode("utf-8", "surrogatepass")) // 4))
