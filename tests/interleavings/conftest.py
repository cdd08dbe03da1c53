"""Worlds to explore, on the run's servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from embedq.local.servers import Servers
from embedq.store.database import Database

from . import gate
from .case import Explorer
from .connections import GatedDatabase
from .crew import fresh_world
from .footprints import Mentions
from .gate import Player
from .scheduler import Choice, Monitor, Run
from .search import Search
from .world import World

Act = Callable[[Database], Any]
TABLES = """DROP TABLE IF EXISTS pears, figs;
CREATE TABLE pears (id int PRIMARY KEY, n int NOT NULL); CREATE TABLE figs (id int PRIMARY KEY, n int NOT NULL)"""
START = "TRUNCATE pears, figs; INSERT INTO pears VALUES (1, 0), (2, 0); INSERT INTO figs VALUES (1, 0), (2, 0)"
LOOK = "SELECT 'pears', id, n FROM pears UNION ALL SELECT 'figs', id, n FROM figs ORDER BY 1, 2"


@pytest.fixture(autouse=True)
def controlled_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", gate._sleep_of_player)
    monkeypatch.setattr(time, "monotonic", gate._monotonic_of_player)


@pytest.fixture(scope="session")
def world(servers: Servers, template: str) -> Iterator[World]:
    with fresh_world(servers.admin_url, "interleavings", template) as made:
        yield made


@pytest.fixture(scope="session")
def explorer(world: World) -> Explorer:
    return Explorer(world)


class Toy:
    """Two tables of two numbers each, and programs on them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin = psycopg.connect(url, autocommit=True)
        self.admin.execute(TABLES)
        self.monitor = Monitor(psycopg.connect(url, autocommit=True), Mentions(self.admin))
        self.databases = [GatedDatabase(url), GatedDatabase(url), GatedDatabase(url)]
        self.ends: list[tuple[Any, ...]] = []
        self.search: Search

    def explore(self, *acts: Act, reduced: bool = True) -> set[tuple[Any, ...]]:
        """All ends: of each act what it returned or the error it met, and what is in the tables."""
        self.ends = []

        def begin() -> Run:
            self.admin.execute(START)
            players = [
                Player(str(number), lambda act=act, database=database: act(database))
                for number, (act, database) in enumerate(zip(acts, self.databases, strict=False))
            ]
            return Run(players, self.monitor)

        self.search = Search(begin, self._judge, reduced=reduced)
        self.search.all()
        return set(self.ends)

    def begun(self, act: Callable[[], Any]) -> Run:
        """A schedule of this alone that was left after its first step."""
        self.admin.execute(START)
        run = Run([Player("0", act)], self.monitor)
        run.step(Choice(0))
        run.abandon()
        return run

    def _judge(self, run: Run) -> bool:
        results = [type(p.error).__name__ if p.error else p.result for p in run.players]
        self.ends.append((*results, tuple(self.admin.execute(LOOK).fetchall())))
        return True

    def close(self) -> None:
        for database in self.databases:
            database.close()
        self.monitor.connection.close()
        self.admin.close()


@pytest.fixture
def toy(servers: Servers) -> Iterator[Toy]:
    with psycopg.connect(servers.admin_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS toy WITH (FORCE)")
        connection.execute("CREATE DATABASE toy")
        connection.execute("ALTER DATABASE toy SET deadlock_timeout = '60s'")
        made = Toy(servers.admin_url.rsplit("/", 1)[0] + "/toy")
        yield made
        made.close()
        connection.execute("DROP DATABASE toy WITH (FORCE)")


def program(*statements: str, isolation: str = "") -> Act:
    """These statements in one transaction; returns what they returned."""

    def act(database: Database) -> tuple[Any, ...]:
        found: list[Any] = []
        with database.transaction() as connection:
            if isolation:
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            for statement in statements:
                cursor = connection.execute(statement)
                found.append(tuple(tuple(row.values()) for row in cursor.fetchall()) if cursor.description else cursor.rowcount)
        return tuple(found)

    return act


def alone(statement: str) -> Act:
    """A statement that commits by itself."""
    return lambda database: database.execute(statement)


Programs = Sequence[Act]
