"""One run of the chaos: break things while articles are written, put everything back, wait, judge."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from embedq.errors import EmbedqError
from embedq.model import Mode, SourceDraft
from embedq.operations import sources
from tests.support import until

from .faults import Faults
from .judge import Verdict, Watch, judge
from .plan import Step, plan
from .world import BATCH, CONCURRENCY, World, world
from .writers import NOTES, Book, RowWriter, Writer

WRITERS, ROW_WRITERS = 3, 2
# One fault in so many seconds, about.
EVERY_S = 0.7
# What can make somebody pay twice: whoever held a batch, or had one under way, did not get to settle it.
COSTLY = ("kill", "freeze", "PostgreSQL", "connections", "in order", "by hand", "provider", "mode", "Redis")
# What one operator does; he has one pair of hands.
OPERATOR = ("running", "pause", "submissions", "mode", "tasks")


@dataclass(slots=True)
class Result:
    """Everything that a run showed. `problems` is empty when it was good."""

    seed: int
    seconds: float
    injected: Counter[str] = field(default_factory=Counter)
    impossible: Counter[str] = field(default_factory=Counter)
    book: Book = field(default_factory=Book)
    verdict: Verdict = field(default_factory=Verdict)
    complaints: list[str] = field(default_factory=list)
    innocent_failed: list[str] = field(default_factory=list)
    settled_after_s: float = 0.0
    samples: int = 0
    fences: int = 0
    logs: Path = Path()

    @property
    def may_pay_twice(self) -> int:
        return BATCH * CONCURRENCY * sum(n for name, n in self.injected.items() if any(word in name for word in COSTLY))

    @property
    def problems(self) -> list[str]:
        found = self.complaints + [f"a save failed: {failed}" for failed in self.book.broken_saves] + self.verdict.problems
        if self.verdict.paid_twice > self.may_pay_twice:
            found.append(f"{self.verdict.paid_twice} inputs were paid for twice, {self.may_pay_twice} may be")
        return found


def run(seed: int, seconds: float, logs: Path, *, every_s: float = EVERY_S, settle_s: float = 90.0) -> Result:
    """Raises AssertionError when it cannot be brought to rest; otherwise says what was found."""
    result = Result(seed, seconds, logs=logs)
    with world(logs, seed) as its_world:
        _play(its_world, result, plan(seed, seconds, every_s), settle_s)
    return result


def _play(its_world: World, result: Result, steps: Sequence[Step], settle_s: float) -> None:
    watch, faults = Watch(its_world, result.book), Faults(its_world)
    result.injected, result.impossible, result.complaints = its_world.injected, its_world.impossible, its_world.complaints
    watch.start()
    _attach(its_world)
    writers = [Writer(its_world, result.book, f"{result.seed} writer {number}") for number in range(WRITERS)]
    writers += [RowWriter(its_world, result.book, f"{result.seed} row writer {number}") for number in range(ROW_WRITERS)]
    for writer in writers:
        writer.start()
    _break_things(faults, steps, its_world)
    its_world.stopping.set()
    for writer in writers:
        writer.join(30.0)
        assert not writer.is_alive(), f"{writer.name} hangs in a save"
        assert writer.crash is None, f"{writer.name}: {writer.crash!r}"
    result.settled_after_s = _settle(its_world, faults, result, settle_s)
    result.verdict = judge(its_world, result.book)
    result.complaints += watch.found()
    result.samples, result.fences = watch.samples, faults.fence.looked


def _attach(its_world: World) -> None:
    with its_world.connect() as connection:
        connection.execute(NOTES)
    draft = SourceDraft("notes", title="note_title(title)", content="content", tenant="tenant")
    sources.attach(its_world.store, draft, "chaos", "chaos")


def _break_things(faults: Faults, steps: Sequence[Step], its_world: World) -> None:
    """Each part has a thread of its own, so that what hangs in one does not keep another from being mended."""
    began, lines = time.monotonic(), dict[str, list[Step]]()
    for step in steps:
        lines.setdefault("operator" if step.kind.part in OPERATOR else step.kind.part, []).append(step)
    threads = [threading.Thread(target=_follow, args=(faults, line, began, its_world), daemon=True) for line in lines.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(steps[-1].at_s + 120.0)
        assert not thread.is_alive(), "a fault hangs"


def _follow(faults: Faults, steps: Sequence[Step], began: float, its_world: World) -> None:
    for step in steps:
        time.sleep(max(0.0, began + step.at_s - time.monotonic()))
        try:
            faults.do(step)
        except Exception as crash:
            its_world.complaints.append(f"{step.kind.name} {'' if step.begin else 'not mended'}: {crash!r}")


def _settle(its_world: World, faults: Faults, result: Result, settle_s: float) -> float:
    """Everything well, an operator's last acts, and then nothing may stay open. Returns the seconds it took."""
    began = time.monotonic()
    its_world.wait_for_postgres()
    mode = its_world.dice.choice([Mode.CELERY, Mode.DATABASE])
    faults.when_possible(lambda: faults.fence.change(lambda: _start(its_world, mode)))
    # Twice: a transaction that was open during the first may have written beside it.
    faults.when_possible(lambda: [sources.compare(its_world.store, "notes") for _ in range(2)])
    _until_idle(its_world, settle_s)
    result.innocent_failed = _innocent_failed(its_world, result.book)
    faults.when_possible(lambda: its_world.store.care.reconcile(also=("failed", "cancelled")))
    _until_idle(its_world, settle_s)
    faults.fence.look()
    return time.monotonic() - began


def _start(its_world: World, mode: Mode) -> None:
    its_world.store.status.set_running(True, "the chaos is over", "chaos")
    its_world.store.status.set_mode(mode, "the chaos is over", "chaos")


def _open(its_world: World) -> list[tuple[object, ...]]:
    with its_world.connect() as connection:
        return connection.execute(
            "SELECT id, status, priority, dispatched_at, scheduled_at, lease_holder, claims, error_message FROM embedding_tasks"
            " WHERE status IN ('pending', 'processing') ORDER BY id"
        ).fetchall()


def _until_idle(its_world: World, timeout_s: float) -> None:
    until(
        lambda: not _open(its_world),
        timeout_s,
        lambda: f"{len(_open(its_world))} tasks are open, the first: {_open(its_world)[:3]}",
    )


def _innocent_failed(its_world: World, book: Book) -> list[str]:
    """Tasks failed for another reason than an operator's hand, though nothing was wrong with their text: whose fault was it?"""
    with suppress(psycopg.Error, EmbedqError), its_world.connect() as connection:
        rows = connection.execute(
            "SELECT t.article_id, t.id, t.delivery, t.errors FROM embedding_tasks t JOIN article_texts a ON a.id = t.article_id"
            " WHERE t.status = 'failed' AND t.error_class <> 'by hand' AND t.version = a.version"
        ).fetchall()
        return [
            f"task {task} ({delivery}) failed: " + "; ".join(f"{each['at']} {each['message']}" for each in errors)
            for article, task, delivery, errors in rows
            if article in book.live and book.live[article].can_be_embedded
        ]
    return []
