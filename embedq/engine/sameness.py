"""Whether the providers of a process still have the models that they had: looked at before anything is stored (`decide.sameness`).

Each process looks at first, after each probe of its own and at times, because its server may be another than the others'. The canary goes
along with the texts of a batch then, so that a look costs no request. What one finds holds for all: the register has it, and nothing more
is stored for that model (docs/why/canary.rst).
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

# Stored texts that are asked for again where a model has vectors and no canary yet.
SAMPLES = 3


@dataclass(slots=True)
class Looked:
    """What this process saw of a model last: when (its clock), and in which words it was another vector; empty: the usual one."""

    at: float = float("-inf")
    words: str = ""

    def is_due(self, now: float, probed_at: float) -> bool:
        return probed_at > self.at or now - self.at >= (LOOK_AGAIN_S if self.words else LOOK_EVERY_S)


class Sameness:
    """`servers`: host and port that this process asks for a model."""

    def __init__(
        self, store: Store, worker: str, servers: Callable[[Model], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.worker, self.servers, self.clock = store, worker, servers, clock
        self._looked: dict[int, Looked] = {}
        self._lock = threading.Lock()

    def is_due(self, asker: Asker) -> bool:
        """Whether the canary is to go along with the next texts."""
        return self._mine(asker).is_due(self.clock(), asker.probed_at)

    def hindrance(self, asker: Asker, swapped: Swapped | None) -> str | None:
        """Before texts are asked for: why nothing may be stored for this model; None: nothing is known against it. `swapped`: what all processes know.
        Raises ProviderBusy when this process looks whether the former model is back, and the provider does not answer."""
        mine = self._mine(asker)
        if asker.probed_at > mine.at or (mine.words and self.is_due(asker)):
            return self._look_alone(asker, swapped, mine)
        if mine.words or swapped is None:
            return mine.words or None
        if self.store.canaries.may_look(asker.provider.model.id, self.servers(asker.provider.model)):
            return self._look_alone(asker, swapped, mine, for_all=True)
        return swapped.told()

    def seen(self, asker: Asker) -> str | None:
        """After texts were answered, when a look was due: why they may not be stored. Raises ProviderBusy as above."""
        mine = self._mine(asker)
        return self._look_alone(asker, None, mine) if self.is_due(asker) else mine.words or None

    def _mine(self, asker: Asker) -> Looked:
        return self._looked.setdefault(asker.provider.model.id, Looked())

    def _look_alone(self, asker: Asker, swapped: Swapped | None, mine: Looked, *, for_all: bool = False) -> str | None:
        """One thread looks; the others wait for what it sees."""
        with self._lock:
            if for_all or self.is_due(asker):
                return self._look(asker, swapped, mine, for_all=for_all)
            return mine.words or None

    def _look(self, asker: Asker, swapped: Swapped | None, mine: Looked, *, for_all: bool = False) -> str | None:
        """`for_all`: what is seen ends what another process has found, as it does where both use the same server."""
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
        """The cosine with the vector of before, when that is of another model. A canary that was never asked for is compared by what is stored."""
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
        """The canary's vector; one that was asked for since the last look is not asked for again."""
        vector = asker.canary_vector
        return asker.probe() if vector is None or asker.probed_at <= mine.at else vector

    def _unlike_stored(self, asker: Asker) -> float | None:
        samples = self.store.vectors.samples(asker.provider.model.id, SAMPLES)
        found = [nearest(sample.vector, [asker.probe(sample.text)]) for sample in samples]
        return max(found) if found and max(found) < SAME else None

    def _differs(self, model: Model, cosine: float) -> str:
        news = self.store.canaries.differs(model.id, cosine, self.servers(model), self.worker)
        swapped = next(iter(self.store.canaries.swapped(model.id)), None)
        if swapped is None:  # dropped, or accepted, at this very moment
            return f"{model} made another vector of the same text than before (cosine {cosine:.3f})"
        if news:
            log.error("%s; next: %s", swapped.told(), swapped.next())
            self.store.audit.write("model", swapped.told(), level="error", model=model.id, cosine=cosine, hint=swapped.next())
        return swapped.told()

    def _same_again(self, model: Model) -> None:
        if self.store.canaries.same_again(model.id):
            self.store.audit.write("model", f"{model} makes the vectors of before again; its tasks go on", model=model.id)
