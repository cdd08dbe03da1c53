"""The register of processes that embed. Leases depend on their heartbeat."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from .database import Connection, Database, Row
from .queries import QUERIES
from .settling import MET_A_WRITER


class Workers:
    def __init__(self, database: Database) -> None:
        self.database = database

    def register(self, delivery: str, name: str, queues: Sequence[str], lease_s: float) -> int:
        parameters = {
            "delivery": delivery,
            "name": name,
            "queues": list(queues),
            "lease_s": lease_s,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        row = self.database.one(QUERIES.register_worker, parameters)
        assert row is not None
        return int(row["id"])

    def heartbeat(self, worker: int, lease_s: float, counters: Mapping[str, float | str], asleep_s: float = 0.0) -> bool:
        """False when this worker was declared dead and must register anew."""
        asked = {"worker": worker, "lease_s": lease_s, "counters": Jsonb(dict(counters)), "asleep_s": asleep_s}
        return self.database.execute(QUERIES.heartbeat, asked) > 0

    def serve(self, name: str, queues: Sequence[str]) -> None:
        """The queues that the processes of this name consume from now on."""
        self.database.execute(QUERIES.serve_queues, {"name": name, "queues": [*queues]})

    def fall_asleep(self, worker: int, for_s: float) -> None:
        """From now on, a transaction that makes a task sends a NOTIFY."""
        self.database.execute(QUERIES.fall_asleep, {"worker": worker, "for_s": for_s})

    def end(self, worker: int) -> None:
        """From now on it counts as gone; it may still settle the tasks that it holds."""
        self.database.execute(QUERIES.end_worker, {"worker": worker})

    def leave(self, worker: int) -> int:
        """Take it out of the register. Its tasks are pending again, uncharged; returns how many. Those that a writer has locked are rescued later."""
        try:
            handed_back = self._hand_back(worker)
        except MET_A_WRITER:
            handed_back = 0
        self.database.execute(QUERIES.leave_worker, {"worker": worker})
        return handed_back

    def _hand_back(self, worker: int) -> int:
        with self.database.transaction() as connection:
            connection.execute(QUERIES.patience)
            held = (connection.execute(QUERIES.held_by, {"worker": worker}).fetchone() or {})["ids"] or []
            if held:
                connection.execute(QUERIES.hand_back, {"rows": held, "words": "handed back by a worker that ended"})
                connection.execute(QUERIES.wake)
        return len(held)

    def wake(self) -> None:
        """Wake every worker and the steward."""
        self.database.execute(QUERIES.wake_all)

    def lead(self, session: Connection, grace_s: float) -> bool:
        """Take the steward's lock in this session; whether it has it. The session of a leader that is silent is ended after `grace_s`."""
        row = session.execute(QUERIES.lead).fetchone()
        leading = bool(row and row["leading"])
        if not leading:
            session.execute(QUERIES.end_silent_leader, {"grace_s": grace_s})
        return leading

    def register_leader(self, worker: int, leading: bool) -> None:
        """Note in the register that this worker leads from now on, or no longer does."""
        self.database.execute(QUERIES.stewardship, {"worker": worker, "leading": leading})

    def bury(self, older_s: float) -> list[Row]:
        return self.database.fetch(QUERIES.bury_workers, {"older_s": older_s})

    def all(self) -> list[Row]:
        return self.database.fetch(QUERIES.workers)

    def any_alive(self, delivery: str) -> bool:
        """Whether a worker of this delivery lives."""
        return any(worker["alive"] and worker["delivery"] == delivery for worker in self.all())
