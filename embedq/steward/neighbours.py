"""Another installation on the same broker is told once in the audit log, and by health for as long as it is there."""

from __future__ import annotations

import logging

from ..broker import Broker
from ..decide.broker_states import NEIGHBOURS, OF_ITS_OWN
from ..decide.modes import dispatches
from ..errors import BrokerUnavailable
from ..store import Store

log = logging.getLogger(__name__)


class Neighbours:
    def __init__(self, store: Store, broker: Broker) -> None:
        self.store, self.broker = store, broker
        self._known: list[str] = []

    def look(self) -> None:
        """Announce this installation, and tell of others that did."""
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
