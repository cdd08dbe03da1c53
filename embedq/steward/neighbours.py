"""Detects other installations of embedq on the same broker: recorded once in the audit log, and reported by `health` as long as they are there."""

from __future__ import annotations

import logging

from ..broker import Broker
from ..decide.broker_states import NEIGHBOURS, OF_ITS_OWN
from ..decide.modes import dispatches
from ..errors import BrokerUnavailable
from ..store import Store

log = logging.getLogger(__name__)


class Neighbours:
    """Remembers which other installations were already recorded."""

    def __init__(self, store: Store, broker: Broker) -> None:
        self.store, self.broker = store, broker
        self._known: list[str] = []

    def look(self) -> None:
        """Announce this installation on the broker, and record others found there."""
        if not dispatches(self.store.status.live().mode):
            return
        its = self.store.watch.installation()
        try:
            others = self.broker.announce(its["identity"], its["name"])
        except BrokerUnavailable:
            return
        if others and others != self._known:
            self.store.audit.write("broker", f"{NEIGHBOURS}: {'; '.join(others)}", level="warning", others=others)
            log.warning("%s: %s; next: %s", NEIGHBOURS, "; ".join(others), OF_ITS_OWN)
        self._known = others
