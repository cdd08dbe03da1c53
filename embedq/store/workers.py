"""The register of processes that embed: their heartbeat is what every lease rests on."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from .database import Database, Row
from .queries import QUERIES


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

    def heartbeat(self, worker: int, lease_s: float, counters: Mapping[str, float], asleep_s: float = 0.0) -> str | None:
        """The live mode, or None when this worker was declared dead and must register anew."""
        asked = {"worker": worker, "lease_s": lease_s, "counters": Jsonb(dict(counters)), "asleep_s": asleep_s}
        row = self.database.one(QUERIES.heartbeat, asked)
        return row["mode"] if row else None

    def fall_asleep(self, worker: int, for_s: float) -> None:
        """From now on, whoever makes a task sends a NOTIFY."""
        self.database.execute(QUERIES.fall_asleep, {"worker": worker, "for_s": for_s})

    def leave(self, worker: int) -> None:
        self.database.execute(QUERIES.leave_worker, {"worker": worker})

    def bury(self, older_s: float) -> list[Row]:
        return self.database.fetch(QUERIES.bury_workers, {"older_s": older_s})

    def all(self) -> list[Row]:
        return self.database.fetch(QUERIES.workers)

    def any_alive(self, delivery: str) -> bool:
        """Whether a worker of this delivery lives."""
        return any(worker["alive"] and worker["delivery"] == delivery for worker in self.all())
