"""The circuit breaker in front of a broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import BrokerUnavailable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0


@dataclass(slots=True)
class Circuit:
    """After a failure the broker is not called for some seconds, so that writers do not wait for a server that does not answer."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    closed_until: float = 0.0
    why: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raises BrokerUnavailable while the pause after a failure lasts."""
        left = self.closed_until - self.clock()
        if left > 0:
            raise BrokerUnavailable(
                f"the broker is not called for {left:.1f} s after a failure: {self.why}",
                hint="tasks wait in the table; nothing is lost",
            )

    def failed(self, why: str) -> None:
        with self.lock:
            self.failures += 1
            self.why = why
            self.closed_until = self.clock() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.failures - 1, 10))

    def worked(self) -> None:
        self.failures, self.closed_until, self.why = 0, 0.0, ""
