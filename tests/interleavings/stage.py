"""What operations act on: a start state's workers and tasks, sessions of their own, and a book of what they did."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg

from embedq.decide.switching import switched_off
from embedq.engine.outcomes import without_asking
from embedq.model import Claimed, Delivery, Mode, Outcome, Priority, Stored, TaskStatus
from embedq.store import Store

from .world import Slot

TENANT, OTHER_TENANT = "default", "zeta"


@dataclass(slots=True)
class Scene:
    """Of a start state: its workers, what the first and second of them hold, and models beside the active one."""

    first: int = 0
    second: int = 0
    held: list[Claimed] = field(default_factory=list)
    held_by_second: list[Claimed] = field(default_factory=list)
    dims: dict[int, int] = field(default_factory=lambda: {1: 64})
    model: Any = None


@dataclass(slots=True)
class Book:
    """What happened in one schedule. `at` is the number of steps taken. `bought`: texts embedded, by article and model; `settled`: claims
    whose texts were."""

    at: Callable[[], int] = lambda: 0
    fences: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    claims: list[tuple[int, str]] = field(default_factory=list)
    bought: Counter[tuple[str, int, bytes]] = field(default_factory=Counter)
    settled: set[tuple[int, int]] = field(default_factory=set)
    late: int = 0
    retried: int = 0


@dataclass(slots=True)
class Stage:
    """One operation's place in a schedule."""

    slot: Slot
    scene: Scene
    book: Book
    isolation: str = "read committed"

    def store(self, *, worker: bool = True) -> Store:
        """Made anew for each schedule: what a process remembers of earlier claims would make schedules differ."""
        return Store(self.slot.worker if worker else self.slot.plain)

    def write(self, *statements: str, undo: bool = False) -> None:
        """As an application does. Above READ COMMITTED it has read before it writes, and tries once more when told that it must."""
        if len(statements) == 1 and self.isolation == "read committed" and not undo:
            self.slot.application.execute(statements[0])
            return
        for left in (1, 0):
            try:
                self._write(statements, undo)
                return
            except psycopg.errors.SerializationFailure:
                self.book.retried += 1
                if not left:
                    raise

    def _write(self, statements: Sequence[str], undo: bool) -> None:
        connection = self.slot.application
        level = psycopg.IsolationLevel[self.isolation.replace(" ", "_").upper()]
        connection.isolation_level = None if self.isolation == "read committed" else level
        with connection.transaction(force_rollback=undo):
            if self.isolation != "read committed":
                connection.execute("SELECT count(*) FROM articles").fetchall()
            for statement in statements:
                connection.execute(statement)

    # A worker's part -----------------------------------------------------------------------------------------------------------

    def claimed(self, delivery: Delivery, tasks: Sequence[Claimed]) -> list[Claimed]:
        if tasks:
            self.book.claims.append((self.book.at(), str(delivery)))
        return list(tasks)

    def fenced(self, before: Mode, after: Mode) -> None:
        """From now on no worker of a delivery that this switch ended may claim."""
        self.book.fences.append((self.book.at(), frozenset(map(str, switched_off(before, after)))))

    def embed(self, task: Claimed) -> Outcome:
        """As the engine: what needs no provider is not asked for."""
        return without_asking(task) or self.bought(task)

    def bought(self, task: Claimed) -> Outcome:
        """Once for each claim: a settle that is repeated does not buy again."""
        claim = (task.id, task.claim)
        if claim not in self.book.settled:
            self.book.bought[(task.article_id, task.model_id, text_hash(task.title or "", task.content or ""))] += 1
        self.book.settled.add(claim)
        return embedded(task, self.scene.dims.get(task.model_id, 64))

    def settle(self, store: Store, worker: int, outcomes: Sequence[Outcome]) -> None:
        self.book.late += store.tasks.settle(worker, "explorer", outcomes).late

    def poll(self, store: Store, worker: int, *priorities: Priority) -> list[Claimed]:
        """`priorities`: all when none is given."""
        return self.claimed(Delivery.POLLER, store.tasks.claim_due(worker, Delivery.POLLER, priorities or tuple(Priority), 100))


def text_hash(title: str, content: str) -> bytes:
    return hashlib.sha256(f"{title}\n\n{content}".encode()).digest()


def vector_of(digest: bytes, dimensions: int) -> np.ndarray:
    """A vector that says which text it was made from."""
    return np.resize(np.frombuffer(digest, dtype=np.uint8).astype(np.float32) + 1, dimensions)


def embedded(task: Claimed, dimensions: int) -> Outcome:
    text = task.text or ""
    vectors = vector_of(text_hash(task.title or "", task.content or ""), dimensions)[None, :]
    chunk_hash = hashlib.sha256(text.encode()).digest()
    return Outcome(task, TaskStatus.COMPLETED, charged=True, stored=Stored(vectors, (0,), (len(text),), (chunk_hash,), 3))
