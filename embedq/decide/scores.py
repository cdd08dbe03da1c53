"""What a score of a model means: cosines of texts that have nothing to do with each other lie elsewhere for every model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import NotWell

if TYPE_CHECKING:
    import numpy as np

LEAST: Final = 20


class Background(NamedTuple):
    """Cosines of `pairs` pairs of texts taken at random: the middle one, and what 95 and 99 of a hundred stay below."""

    pairs: int
    median: float
    most_95: float
    most_99: float


def background(vectors: np.ndarray) -> Background:
    """Of vectors of texts taken at random, shape (texts, dimensions), unit length. Raises NotWell for too few."""
    import numpy as np

    if len(vectors) < LEAST:
        raise NotWell(f"there are only {len(vectors)} vectors", hint=f"embed at least {LEAST} articles first: `embedq status`")
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), k=1)]
    median, most_95, most_99 = (float(each) for each in np.quantile(cosines, (0.5, 0.95, 0.99)))
    return Background(len(cosines), median, most_95, most_99)
