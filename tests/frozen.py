"""A worker that stops (SIGSTOP) in the middle of one of its statements: `python -m tests.frozen URL claim|copy`.

`claim`: the claim is executed and its answer is not read, so that PostgreSQL waits for the program to read. `copy`: a part of the vectors of
a settle was sent, so that PostgreSQL waits for the rest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg

from embedq.model import Claimed, Delivery, Outcome, Priority, Stored, TaskStatus
from embedq.store import Store, copy
from embedq.store.database import Connection, Database
from embedq.store.queries import QUERIES

DIMENSIONS = 64


def freeze() -> None:
    print("frozen", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def take_and_freeze(connection: Connection, worker: int, delivery: Delivery, ids: Sequence[int]) -> list[Claimed]:
    values = {"ids": [*ids], "worker": worker, "delivery": delivery}
    statement = psycopg.ClientCursor(connection).mogrify(QUERIES.take, values)
    connection.pgconn.send_query(statement.encode())
    connection.pgconn.flush()
    freeze()
    return []


def first_block_and_freeze(*arguments: Any) -> Iterator[bytes]:
    for block in blocks(*arguments):
        yield block
        freeze()


blocks = copy.blocks


def main(url: str, what: str) -> None:
    store = Store(Database(url, size=2, name="embedq poller"))
    worker = store.workers.register(Delivery.POLLER, "frozen", [], 10.0)
    if what == "claim":
        store.tasks._take = take_and_freeze  # type: ignore[method-assign]
    else:
        copy.blocks = first_block_and_freeze
    tasks = store.tasks.claim_due(worker, Delivery.POLLER, tuple(Priority), 100, 0.0)
    vectors = np.ones((1, DIMENSIONS), dtype=np.float32)
    stored = [Stored(vectors, (0,), (len(task.text or ""),), (b"hash",), 3) for task in tasks]
    outcomes = [
        Outcome(task, TaskStatus.COMPLETED, charged=True, stored=each) for task, each in zip(tasks, stored, strict=True)
    ]
    store.tasks.settle(worker, "frozen", outcomes)


if __name__ == "__main__":
    main(*sys.argv[1:])
