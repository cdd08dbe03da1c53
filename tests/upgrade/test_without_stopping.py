"""From 0.1.0 to this version and back, under load: nothing is lost, no save fails, nothing that is stored is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from embedq import __version__
from tests.chaos.judge import Verdict, against_book, contradictions, hashes, judge_vectors, vectors
from tests.chaos.writers import Book, Text
from tests.support import Process, until

from .versions import Version

PATIENCE_S = 60.0
SETTLED = "SELECT count(*) FROM embedding_tasks WHERE status = 'completed'"
OPEN = "SELECT count(*) FROM embedding_tasks WHERE status IN ('pending', 'processing')"


class Rolling:
    """Workers and a writer of some version each, replaced one by one: the new one is started before the old one ends."""

    def __init__(self, shop: dict[str, str], stack: ExitStack) -> None:
        self.shop, self.stack = shop, stack
        self.workers: dict[str, Process] = {}
        self.writers: list[Process] = []
        self.ended: list[str] = []
        self.connection = stack.enter_context(psycopg.connect(shop["DATABASE_URL"], autocommit=True))

    def start(self, version: Version) -> None:
        self.workers = {"celery": self._begun(version.celery(self.shop)), "poller": self._begun(version.poller(self.shop))}
        self.write(version)

    def roll_to(self, version: Version) -> None:
        for name in self.workers:
            old, self.workers[name] = self.workers[name], self._begun(getattr(version, name)(self.shop))
            self.settles()
            self.end(old)
        self.write(version)

    def write(self, version: Version) -> None:
        """By the Client of that version; who wrote before ends."""
        self.writers.append(self._begun(version.writer(self.shop, f"w{len(self.writers)}")))
        self.writers[-1].says("saved")
        self.stop_writing(self.writers[-2:-1])

    def stop_writing(self, writers: list[Process]) -> None:
        for writer in writers:
            assert writer.terminate() == 0, writer.output()[-2000:]

    def end(self, worker: Process) -> None:
        assert worker.terminate() == 0, worker.output()[-3000:]
        self.ended.append(worker.output())

    def settles(self) -> None:
        """What is written now is embedded by the workers that run now."""
        done = self.number(SETTLED)
        until(lambda: self.number(SETTLED) > done + 20, PATIENCE_S, self.story)

    def until_nothing_is_open(self) -> None:
        until(lambda: not self.number(OPEN), PATIENCE_S, self.story)

    def number(self, statement: str) -> int:
        row = self.connection.execute(statement).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def story(self) -> str:
        rows = self.connection.execute("SELECT status, count(*), max(error_message) FROM embedding_tasks GROUP BY 1").fetchall()
        return f"{rows}\n" + "\n".join(worker.output()[-3000:] for worker in self.workers.values())

    def _begun(self, process: Process) -> Process:
        return self.stack.enter_context(process)


def told(writers: list[Process]) -> Iterator[dict[str, Any]]:
    for writer in writers:
        for line in writer.output().splitlines():
            yield json.loads(line)


def book_of(writers: list[Process]) -> Book:
    book = Book()
    for line in told(writers):
        book.broken_saves += [f"{line['wrote']}: {line['failed']}"] if "failed" in line else []
        saved = line.get("saved", {})
        book.note({key: text and Text("default", *text) for key, text in saved.items()})
        book.done["saves"] += bool(saved)
        book.slowest_s = max(book.slowest_s, line.get("took_s", 0.0))
    return book


def judged(url: str, book: Book) -> list[str]:
    verdict = Verdict()
    with psycopg.connect(url, autocommit=True) as connection:
        texts = connection.execute("SELECT id, tenant_id, title, content FROM article_texts").fetchall()
        verdict.lost += list(against_book({key: tuple(rest) for key, *rest in texts}, book))
        judge_vectors(verdict, book, vectors(connection), hashes(connection))
        verdict.other += contradictions(connection)
    return verdict.problems + book.broken_saves


def well(version: Version, shop: dict[str, str], *command: str) -> str:
    done = version.command(shop, *command)
    assert done.returncode == 0, f"{version.name} {command}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def on_a_broker(request: pytest.FixtureRequest, shop: dict[str, str]) -> dict[str, str]:
    return shop if request.param == "redis" else shop | {"EMBEDDING_BROKER_URL": request.getfixturevalue("rabbitmq_url")}


@pytest.mark.timeout(400)
def test_up_and_back_under_load_loses_nothing(before: Version, current: Version, on_a_broker: dict[str, str]):
    shop = on_a_broker
    assert "0004" in well(before, shop, "db", "upgrade")
    well(before, shop, "mode", "hybrid", "--reason", "test", "--yes")

    with ExitStack() as stack:
        here = Rolling(shop, stack)
        here.start(before)
        here.settles()

        well(current, shop, "db", "upgrade")
        here.settles()
        well(before, shop, "verify")
        here.roll_to(current)
        here.settles()
        well(current, shop, "verify")

        here.roll_to(before)
        here.settles()
        assert "0004" in well(current, shop, "db", "downgrade", "0004", "--yes")
        here.settles()
        here.stop_writing(here.writers[-1:])
        here.until_nothing_is_open()

        well(before, shop, "verify")
        logs = here.ended + [worker.output() for worker in here.workers.values()]
        book, versions = book_of(here.writers), [line["version"] for line in told(here.writers) if "version" in line]
    assert versions == ["0.1.0", __version__, "0.1.0"]
    assert judged(shop["DATABASE_URL"], book) == []
    assert "Traceback" not in "\n".join(logs)
    assert book.done["saves"] > 200
