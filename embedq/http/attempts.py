"""How often a wrong token may be tried at the cockpit: per address and overall, in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WINDOW_S = 60.0
OF_ONE, OF_ALL = 10, 100


class Attempts:
    """An attempt counts until it turns out to be right. At most OF_ALL addresses are remembered, each for WINDOW_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._of: dict[str, int] = {}
        self._all, self._until = 0, 0.0

    def take(self, peer: str) -> float:
        """Seconds until this address may try again; 0: it may now, and the attempt is counted."""
        with self._lock:
            now = self._clock()
            if now >= self._until:
                self._of, self._all, self._until = {}, 0, now + WINDOW_S
            if self._all >= OF_ALL or self._of.get(peer, 0) >= OF_ONE:
                return self._until - now
            self._all += 1
            self._of[peer] = self._of.get(peer, 0) + 1
            return 0.0

    def was_right(self, peer: str) -> None:
        """The last attempt had the right token: it is not counted."""
        with self._lock:
            if self._of.get(peer, 0):
                self._of[peer] -= 1
                self._all -= 1
