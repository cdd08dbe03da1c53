"""Tells whether a message belongs to another installation, by its header. Such a message is returned to the broker while that installation uses it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from ..decide.broker_states import NEIGHBOURS, OF_ITS_OWN
from ..errors import BrokerUnavailable

log = logging.getLogger(__name__)

LOOK_EVERY_S, TELL_EVERY_S = 10.0, 60.0
# Pause before a message is returned: while the other installation's workers do nothing, the same messages are delivered repeatedly.
HOLD_S = 0.5


class Whose:
    """`identity`: of this installation, empty while it is not known. `present`: the installations that use the broker now. Messages of any other
    identity are processed: their ids name tasks of this installation under an earlier identity of it, or no open task."""

    def __init__(
        self, identity: Callable[[], str], present: Callable[[], Mapping[str, str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._identity, self._present, self._clock = identity, present, clock
        self._found: Mapping[str, str] = {}
        self._looked_at = self._told_at = float("-inf")

    def of_another(self, installation: str | None) -> bool:
        ours = self._identity()
        if not installation or not ours or installation == ours:
            return False
        if self._clock() - self._looked_at > LOOK_EVERY_S:
            self._look()
        if installation not in self._found:
            return False
        self._tell(self._found[installation])
        return True

    def _look(self) -> None:
        self._looked_at = self._clock()
        try:
            self._found = self._present()
        except BrokerUnavailable:
            self._found = {}

    def _tell(self, name: str) -> None:
        if self._clock() - self._told_at > TELL_EVERY_S:
            self._told_at = self._clock()
            log.warning("%s: a message of %s is given back; next: %s", NEIGHBOURS, name, OF_ITS_OWN)
