"""Mode `sync`: how many writes may wait for the provider at once. Shared by the threads of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import InputRefused, ProviderBusy

# Half of the HTTP service's threads: the other half saves and reads while these wait for the provider.
SEATS = 8
PATIENCE_S = 2.0


class Seats:
    """Seats for writes that wait for the provider: one that hangs must not hold every thread of a service (G7).

    While calls end well, a write that finds no seat waits for one, PATIENCE_S after the last sign of life at most. After a
    fault one write at a time finds out whether the provider is well again, and the others go without, at once.
    """

    def __init__(self, number: int = SEATS, clock: Callable[[], float] = time.monotonic) -> None:
        self._number, self._clock = number, clock
        self._change = threading.Condition()
        self._taken, self._well, self._alive_at = 0, True, clock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises ProviderBusy when there is none; one that the block raises is the fault after which nobody waits."""
        self._take()
        well: bool | None = None
        try:
            yield
            well = True
        except ProviderBusy:
            well = False
            raise
        except InputRefused:
            well = True  # it answered
            raise
        finally:
            self._give_back(well)

    def _take(self) -> None:
        with self._change:
            patience_s = self._alive_at + PATIENCE_S - self._clock() if self._well else 0.0
            if not self._change.wait_for(self._has_room, max(0.0, patience_s)):
                raise ProviderBusy(
                    "other writes wait for the provider already", hint="`embedq provider check` shows what it answers"
                )
            self._taken += 1
            if self._well:
                # The first that waits begins the time in which it has to end.
                self._alive_at = self._clock()

    def _has_room(self) -> bool:
        return self._taken < (self._number if self._well else 1)

    def _give_back(self, well: bool | None) -> None:
        """`well`: None when the call ended by something else, which says nothing about the provider."""
        with self._change:
            self._taken -= 1
            if well is not None:
                self._well = well
            if well:
                self._alive_at = self._clock()
            self._change.notify_all()
