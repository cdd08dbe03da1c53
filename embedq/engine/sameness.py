"""Checks, before vectors are stored, that the server still has the model that made the stored vectors (`decide.sameness`).

Each process checks at its start, after each of its probes and at intervals, because its server may differ from the others'. For a check the
canary is sent in the same request as the texts of a batch, so it costs no extra request. A mismatch is written to the database and stops
all processes from storing vectors of that model (docs/why/canary.rst).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..decide.sameness import LOOK_AGAIN_S, LOOK_EVERY_S, LOOKS, SAME, Swapped, is_same, nearest

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model
    from ..store import Store
    from .requests import Asker

log = logging.getLogger(__name__)

# Number of stored texts that are embedded again for comparison when a model has vectors but no canary vector.
SAMPLES = 3


@dataclass(slots=True)
class Looked:
    """This process's last check of a model: its time (monotonic), and the reason if the vector differed, else empty."""

    at: float = float("-inf")
    words: str = ""

    def is_due(self, now: float, probed_at: float) -> bool:
        return probed_at > self.at or now - self.at >= (LOOK_AGAIN_S if self.words else LOOK_EVERY_S)


class Sameness:
    """`servers(model)`: host and port that this process uses for a model."""

    def __init__(
        self, store: Store, worker: str, servers: Callable[[Model], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.worker, self.servers, self.clock = store, worker, servers, clock
        self._looked: dict[int, Looked] = {}
        self._lock = threading.Lock()

    def is_due(self, asker: Asker) -> bool:
        """Whether the canary is to be sent with the next texts."""
        return self._mine(asker).is_due(self.clock(), asker.probed_at)

    def hindrance(self, asker: Asker, swapped: Swapped | None) -> str | None:
        """Before a request: why nothing may be stored for this model, or None. `swapped`: the mismatch recorded in the database, if any.
        Raises ProviderBusy when this process checks whether the former model is back and the provider does not answer."""
        mine = self._mine(asker)
        if asker.probed_at > mine.at or (mine.words and self.is_due(asker)):
            return self._look_alone(asker, swapped, mine)
        if mine.words or swapped is None:
            return mine.words or None
        if self.store.canaries.may_look(asker.provider.model.id, self.servers(asker.provider.model)):
            return self._look_alone(asker, swapped, mine, for_all=True)
        return swapped.told()

    def seen(self, asker: Asker) -> str | None:
        """After an answer: why its vectors may not be stored, or None. Raises ProviderBusy as above."""
        mine = self._mine(asker)
        return self._look_alone(asker, None, mine) if self.is_due(asker) else mine.words or None

    def _mine(self, asker: Asker) -> Looked:
        return self._looked.setdefault(asker.provider.model.id, Looked())

    def _look_alone(self, asker: Asker, swapped: Swapped | None, mine: Looked, *, for_all: bool = False) -> str | None:
        """One thread checks; the others wait for its result."""
        with self._lock:
            if for_all or self.is_due(asker):
                return self._look(asker, swapped, mine, for_all=for_all)
            return mine.words or None

    def _look(self, asker: Asker, swapped: Swapped | None, mine: Looked, *, for_all: bool = False) -> str | None:
        """Compare the vectors and record the result. `for_all`: a match clears a mismatch that another process recorded, as it always does
        if both use the same server."""
        model, before = asker.provider.model, mine.words
        unlike = self._unlike(asker, mine)
        mine.words = "" if unlike is None else self._differs(model, unlike)
        mine.at = self.clock()
        if mine.words:
            return mine.words
        if swapped is None:
            self.store.canaries.same(model.id)
        elif for_all or before or swapped.server == self.servers(model):
            self._same_again(model)
        else:
            return swapped.told()
        return None

    def _unlike(self, asker: Asker, mine: Looked) -> float | None:
        """The cosine with the kept canary vector if it is of another model, else None. Without a kept vector, stored texts are embedded and
        compared."""
        kept = self.store.canaries.of(asker.provider.model.id)
        if kept is not None and kept.vector is not None:
            seen = [self._probed(asker, mine)]
            while not is_same(kept.vector, seen) and len(seen) < LOOKS:
                seen.append(asker.probe())
            return None if is_same(kept.vector, seen) else nearest(kept.vector, seen)
        unlike = self._unlike_stored(asker)
        if unlike is None and not self.store.canaries.keep(asker.provider.model.id, self._probed(asker, mine)):
            return self._unlike(asker, mine) if self.store.canaries.of(asker.provider.model.id) else None
        return unlike

    def _probed(self, asker: Asker, mine: Looked) -> np.ndarray:
        """The canary's vector; one received since the last check is reused."""
        vector = asker.canary_vector
        return asker.probe() if vector is None or asker.probed_at <= mine.at else vector

    def _unlike_stored(self, asker: Asker) -> float | None:
        samples = self.store.vectors.samples(asker.provider.model.id, SAMPLES)
        found = [nearest(sample.vector, [asker.probe(sample.text)]) for sample in samples]
        return max(found) if found and max(found) < SAME else None

    def _differs(self, model: Model, cosine: float) -> str:
        news = self.store.canaries.differs(model.id, cosine, self.servers(model), self.worker)
        swapped = next(iter(self.store.canaries.swapped(model.id)), None)
        if swapped is None:  # the mismatch was removed or accepted in between
            return f"{model} made another vector of the same text than before (cosine {cosine:.3f})"
        if news:
            log.error("%s; next: %s", swapped.told(), swapped.next())
            self.store.audit.write("model", swapped.told(), level="error", model=model.id, cosine=cosine, hint=swapped.next())
        return swapped.told()

    def _same_again(self, model: Model) -> None:
        if self.store.canaries.same_again(model.id):
            self.store.audit.write("model", f"{model} makes the vectors of before again; its tasks continue", model=model.id)
