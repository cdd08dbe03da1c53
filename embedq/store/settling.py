"""Settling: how claimed tasks ended, with their vectors, in short transactions that never wait for a writer longer than `patience`.

First all outcomes together. Those that fail are tried one by one: the task is no longer this worker's (a late result, discarded), or a
transaction has locked its row or its article's, or the outcome cannot be stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import tuple_row

from ..decide.refusals import first_line
from ..decide.stores import Then, not_stored
from ..model import Outcome, TaskStatus
from .arrays import numbers, raw, texts
from .database import Connection, Database
from .queries import QUERIES
from .usage import put_usage
from .vectors import NotStored, put_vectors

# A writer holds the article's row: the settle is tried again for so long (seconds), then returned to the caller.
MET_A_WRITER = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
LOCKED_FOR_S, LOOK_AGAIN_S = 2.0, 0.05


@dataclass(slots=True)
class Settled:
    """What settles did: the tasks' new states; how many came too late and were discarded; and those whose rows other transactions hold,
    which are still this worker's. Handed to the next settle of the same outcomes, it says what need not be done again."""

    states: dict[int, str] = field(default_factory=dict)
    discarded: set[int] = field(default_factory=set)
    locked: list[Outcome] = field(default_factory=list)

    @property
    def late(self) -> int:
        return len(self.discarded)

    def left(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        return [o for o in outcomes if o.task.id not in self.states and o.task.id not in self.discarded]


class Settling:
    """The settles of one worker."""

    def __init__(self, database: Database, worker: int, worker_name: str) -> None:
        self.database, self.worker, self.worker_name = database, worker, worker_name

    def settle(self, outcomes: Sequence[Outcome], settled: Settled, patience_s: float = LOCKED_FOR_S) -> Settled:
        """Write the outcomes, and their cost, each once."""
        deadline, settled.locked = time.monotonic() + patience_s, []
        left = settled.left(outcomes)
        if len(left) > 1:
            left = self._together(left, settled)
        while left:
            left = self._one_by_one(left, settled, deadline)
            if left and time.monotonic() > deadline:
                settled.locked = left
                break
            if left:
                time.sleep(LOOK_AGAIN_S)
        return settled

    def _together(self, outcomes: Sequence[Outcome], settled: Settled) -> list[Outcome]:
        try:
            settled.states |= self._write(outcomes)
        except (psycopg.IntegrityError, psycopg.DataError, NotStored, *MET_A_WRITER):
            pass  # one of them is locked or cannot be stored: settle them one by one
        return settled.left(outcomes)

    def _one_by_one(self, outcomes: Sequence[Outcome], settled: Settled, deadline: float) -> list[Outcome]:
        """Returns those that are still ours and locked. Each is tried once, also after the deadline, unless one before it had to wait."""
        asked = {
            "ids": numbers([o.task.id for o in outcomes]),
            "claims": numbers([o.task.claim for o in outcomes]),
            "worker": self.worker,
        }
        facts = {row["id"]: row for row in self.database.fetch(QUERIES.still_held, asked)}
        for outcome in outcomes:
            fact = facts.get(outcome.task.id)
            if fact is not None and fact["ours"]:
                states = self._alone(outcome)
                settled.states |= states
                if not states and time.monotonic() > deadline:
                    break
            else:
                self._discard(outcome, settled, paid=not (fact and fact["settled"]))
        return settled.left(outcomes)

    def _discard(self, outcome: Outcome, settled: Settled, *, paid: bool) -> None:
        """A late result was paid for, so its cost is recorded, unless an earlier settle of the same outcome had succeeded."""
        if paid and outcome.usage is not None:
            with self.database.transaction() as connection:
                put_usage(connection, [outcome])
        settled.discarded.add(outcome.task.id)

    def _alone(self, outcome: Outcome) -> dict[int, str]:
        """Its new state; nothing while another transaction holds one of its rows."""
        try:
            return self._write([outcome], replacing=True)
        except MET_A_WRITER:
            return {}
        except NotStored:
            return self._instead(outcome)
        except psycopg.errors.ForeignKeyViolation:
            return self._again(
                outcome._replace(status=TaskStatus.CANCELLED, charged=False, stored=None, message="its model was dropped")
            )
        except (psycopg.IntegrityError, psycopg.DataError) as refused:
            # Trying again cannot help: this task alone fails, with PostgreSQL's message.
            return self._again(
                outcome._replace(status=TaskStatus.FAILED, stored=None, error_class="Unstorable", message=first_line(refused))
            )

    def _again(self, outcome: Outcome) -> dict[int, str]:
        try:
            return self._write([outcome])
        except (NotStored, *MET_A_WRITER):
            return {}

    def _instead(self, outcome: Outcome) -> dict[int, str]:
        """The outcome of a task whose result could not be stored, or whose text is no longer stored: decided while the article is locked."""
        try:
            with self._transaction() as connection:
                article = connection.execute(QUERIES.hold_article, {"article_id": outcome.task.article_id}).fetchone()
                if article is None or (article["there"] and article["text_hash"] is None):
                    return {}
                return self._settled_as(connection, outcome, article["text_hash"])
        except MET_A_WRITER:
            return {}

    def _settled_as(self, connection: Connection, outcome: Outcome, article: bytes | None) -> dict[int, str]:
        task = outcome.task
        row = connection.execute(QUERIES.stored_hash, {"article_id": task.article_id, "model_id": task.model_id}).fetchone()
        match not_stored(task.text_hash, article, row["text_hash"] if row else None):
            case Then.CANCEL:
                outcome = outcome._replace(
                    status=TaskStatus.CANCELLED, charged=False, stored=None, message="the article is gone"
                )
            case Then.STORE if outcome.stored is not None:
                return self._write_in(connection, [outcome], replacing=True, anyway=True)
            case Then.COMPLETE:
                outcome = outcome._replace(stored=None)
            case _:
                outcome = outcome._replace(
                    status=TaskStatus.PENDING, charged=False, stored=None, message="its text changed while it was embedded"
                )
        states = self._write_states(connection, [outcome])
        put_usage(connection, [outcome] if states else [])
        return states

    # One transaction -----------------------------------------------------------------------------------------------------------

    def _write(self, outcomes: Sequence[Outcome], *, replacing: bool = False) -> dict[int, str]:
        with self._transaction() as connection:
            return self._write_in(connection, outcomes, replacing=replacing)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.database.transaction() as connection:
            connection.execute(QUERIES.patience)
            yield connection

    def _write_in(
        self, connection: Connection, outcomes: Sequence[Outcome], *, replacing: bool = False, anyway: bool = False
    ) -> dict[int, str]:
        """States, vectors and bill of those that are ours and free. Raises NotStored if a completed task's vectors would not be stored."""
        states = self._write_states(connection, outcomes)
        completed = [o for o in outcomes if states.get(o.task.id) == TaskStatus.COMPLETED]
        put_vectors(connection, [o for o in completed if o.stored is not None], replacing=replacing, anyway=anyway)
        confirm(connection, [o for o in completed if o.stored is None])
        put_usage(connection, [o for o in outcomes if o.task.id in states])
        return states

    def _write_states(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[int, str]:
        # Tuples instead of dictionaries save a twentieth of the settle's time for batches of hundreds.
        cursor = connection.cursor(row_factory=tuple_row)
        cursor.execute(QUERIES.settle, {"worker": self.worker, "worker_name": self.worker_name} | _columns(outcomes))
        return dict(cursor.fetchall())


def confirm(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Tasks that end without a request because their text is stored: raises NotStored unless it still is."""
    if not outcomes:
        return
    tasks = [outcome.task for outcome in outcomes]
    wanted = {
        "article_ids": texts([task.article_id for task in tasks]),
        "models": numbers([task.model_id for task in tasks]),
        "versions": numbers([task.version for task in tasks]),
        "hashes": raw([task.text_hash for task in tasks]),
    }
    if len(connection.execute(QUERIES.confirm_embeddings, wanted).fetchall()) < len(
        {(task.article_id, task.model_id) for task in tasks}
    ):
        raise NotStored("the stored vectors are of another text")


def _columns(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {
        "ids": numbers([o.task.id for o in outcomes]),
        "claims": numbers([o.task.claim for o in outcomes]),
        "statuses": texts([o.status for o in outcomes]),
        "versions": numbers([o.task.version for o in outcomes]),
        "charged": numbers([o.charged for o in outcomes]),
        "waits": numbers([o.wait_s for o in outcomes]),
        "classes": texts([o.error_class for o in outcomes]),
        "messages": texts([o.message for o in outcomes]),
    }
