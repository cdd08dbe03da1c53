"""Whether a provider still has the model that it had: what it makes of a harmless text (the canary) is compared with what it made before.

A server may have another model under the same name after an update or behind another address. Its vectors have the same length and mean
something else, and no answer says so. Values in, values out; the kept vectors are in `store.canaries` (docs/why/canary.rst).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

# Rounding alone leaves 0.999 (`providers.answers.similar`). What is left to 0.97 is for the same weights in another precision, whose vectors can
# still be compared with those that are stored.
SAME: Final = 0.97
# So often the canary is asked for before a vector is taken for another one: a provider may answer with noise.
LOOKS: Final = 3
# A process looks so often, while it embeds (seconds); and so often again while what it found last was another vector.
LOOK_EVERY_S, LOOK_AGAIN_S = 120.0, 20.0
# Of another process's find another process may look for itself when nobody has confirmed it for so long.
UNCONFIRMED_S: Final = 3 * LOOK_AGAIN_S


@dataclass(frozen=True, slots=True)
class Swapped:
    """A model that makes other vectors than before. `cosine`: of the two for the same text. `server`: host and port that the other came from, as
    the `worker` that saw it is set up. `same_at`: when it made its usual one last, None when that is not known. Times are UTC."""

    model_id: int
    model: str
    cosine: float
    server: str
    worker: str
    since: datetime
    same_at: datetime | None

    def told(self) -> str:
        """What is wrong, in words."""
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
            "bring the former model back, and the tasks go on by themselves; for the new one: `embedq model add` under another name, build and activate"
            f" it. When it is the same model after all: `embedq model accept {self.model_id}`{suspect}"
        )


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of two vectors of shape (dimensions,); 0 when one of them has no length, or their lengths differ."""
    import numpy as np

    if one.shape != other.shape:
        return 0.0
    first, second = one.astype(np.float64), other.astype(np.float64)
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else 0.0


def nearest(kept: np.ndarray, seen: Sequence[np.ndarray]) -> float:
    """The cosine of the kept vector and the most similar of those that came for the same text now."""
    return max(cosine(kept, each) for each in seen)


def is_same(kept: np.ndarray, seen: Sequence[np.ndarray]) -> bool:
    """Whether what came now can be of the model that the kept vector is of. Noise is allowed for by as much as the answers themselves differ."""
    found = nearest(kept, seen)
    noise = 1.0 - min((cosine(*pair) for pair in combinations(seen, 2)), default=1.0)
    return found >= SAME or 1.0 - found <= 2 * noise
