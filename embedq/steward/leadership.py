"""Which process leads: the one whose session holds an advisory lock in PostgreSQL.

The lock is released when the process dies. When it is only stopped (SIGSTOP), another process ends its session after `SILENT_LEADER_S`.
"""

from __future__ import annotations

import logging

import psycopg

from ..engine.worker import UNPUBLISHED, Worker
from ..errors import EmbedqError
from ..store import Store
from ..store.database import Connection

log = logging.getLogger(__name__)

SILENT_LEADER_S = 15.0


class Leadership:
    """`leads`: whether this process led at the last `take()`."""

    def __init__(self, store: Store, worker: Worker) -> None:
        self.store, self.worker = store, worker
        self.leads = False
        self._session: Connection | None = None
        self._registered_as = 0

    def take(self) -> bool:
        """Lead, if no other process does. Raises when the session that holds the lock is gone."""
        if self._session is None:
            self._session = self.store.database.connect(name="embedq steward")
        if self.leads:
            self._session.execute("SELECT 1")
            if self._registered_as != self.worker.id:  # the worker was declared dead and registered again
                self._register(True)
            return True
        self.leads = self.store.workers.lead(self._session, SILENT_LEADER_S)
        if self.leads:
            self._register(True)
            log.info("%s is the steward now", self.worker.name)
        return self.leads

    def give_up(self) -> None:
        """Free the lock. Safe to call twice."""
        led, session = self.leads, self._session
        self.worker.said.pop(UNPUBLISHED, None)
        self._session, self.leads = None, False
        if led:
            self._register(False)
        if session is not None:
            session.close()

    def _register(self, leading: bool) -> None:
        """Record in the register who leads: a silent leader's session is ended by others, and a former leader must not be taken for the leader."""
        self._registered_as = self.worker.id
        try:
            self.store.workers.register_leader(self.worker.id, leading)
        except (EmbedqError, psycopg.Error) as away:
            log.info("the change of steward could not be written to the register of workers: %s", away)
