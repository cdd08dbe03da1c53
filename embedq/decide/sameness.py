"""Detects that a server has another model under the same name: its vector of a harmless text (the canary) is compared with the kept one.

This can happen after an update, or behind another address. The vectors have the same length but cannot be compared, and no answer shows it.
Pure functions; the kept vectors are in `store.canaries` (docs/why/canary.rst).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

# Lowest cosine of the same model. Rounding alone stays above 0.999 (`providers.answers.similar`); the same weights in another precision
# stay above 0.97, and their vectors can still be compared with stored ones.
SAME: Final = 0.97
# Number of requests for the canary before a mismatch is concluded, because a provider's vectors may be noisy.
LOOKS: Final = 3
# Seconds between checks of a process while it embeds; and after a mismatch.
LOOK_EVERY_S, LOOK_AGAIN_S = 120.0, 20.0
# Seconds without confirmation after which a process may check a mismatch that another process found.
UNCONFIRMED_S: Final = 3 * LOOK_AGAIN_S


@dataclass(frozen=True, slots=True)
class Swapped:
    """A model whose vectors changed. `cosine`: between the old and new vector of the same text. `server`: host and port of the new one,
    from the settings of `worker`, which saw it. `same_at`: time of the last matching vector, None if unknown. Times are UTC."""

    model_id: int
    model: str
    cosine: float
    server: str
    worker: str
    since: datetime
    same_at: datetime | None

    def told(self) -> str:
        """The problem, as text."""
        return (
            f"{self.model} makes other vectors than before (cosine {self.cosine:.3f} for the same text): {self.server or 'its server'} has another model"
            f" under this name, as {self.worker or 'a worker'} saw; nothing is stored for it since {self.since:%Y-%m-%d %H:%M:%S} UTC, its tasks wait"
        )

    def next(self) -> str:
        """Which command helps."""
        suspect = (
            f"; what was embedded after {self.same_at:%Y-%m-%d %H:%M:%S} UTC may be of the other model" if self.same_at else ""
        )
        return (
            "bring the former model back, and the tasks continue by themselves; for the new one: `embedq model add` under another name, build and activate"
            f" it. When it is the same model after all: `embedq model accept {self.model_id}`{suspect}"
        )


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of two vectors of shape (dimensions,); 0 if one is all zeros or their sizes differ."""
    import numpy as np

    if one.shape != other.shape:
        return 0.0
    first, second = one.astype(np.float64), other.astype(np.float64)
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else 0.0


def nearest(kept: np.ndarray, seen: Sequence[np.ndarray]) -> float:
    """The highest cosine between the kept vector and those received now for the same text."""
    return max(cosine(kept, each) for each in seen)


def is_same(kept: np.ndarray, seen: Sequence[np.ndarray]) -> bool:
    """Whether the vectors received now can be of the kept vector's model. Differences among them are allowed for as noise."""
    found = nearest(kept, seen)
    noise = 1.0 - min((cosine(*pair) for pair in combinations(seen, 2)), default=1.0)
    return found >= SAME or 1.0 - found <= 2 * noise
