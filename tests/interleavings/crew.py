"""Processes that explore side by side, each with a database of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from embedq.local.servers import Servers

from .case import Case, Explorer, Result
from .frozen import explore_frozen, freezable
from .gate import control_the_clock
from .mutants import mutated
from .scheduler import Diverged, Stuck
from .world import World

_mine: dict[str, Any] = {}


class Crew:
    """`deadline` (seconds of the clock): what would begin later is not begun. `without`: a fix that is taken out."""

    def __init__(self, servers: Servers, workers: int, deadline: float, *, most: int, without: str = "") -> None:
        self.pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _begin, (servers.admin_url, deadline, most, without)
        )

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            for process in [*self.pool._processes.values()]:
                process.terminate()
        self.pool.shutdown(cancel_futures=True)

    def explore(self, cases: Sequence[Case]) -> Iterator[Result | str]:
        """Results as they come, or what went wrong with the tool itself; nothing of cases that were not begun in time."""
        for future in as_completed([self.pool.submit(_explore, case) for case in cases]):
            result = future.result()
            if result is not None:
                yield result


@contextmanager
def fresh_world(server: str, name: str, template: str = "template1") -> Iterator[World]:
    """A database of this name, made anew and dropped afterwards. `template`: a database that may have the schema already."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # type: ignore[arg-type]
        world = World(server.rsplit("/", 1)[0] + "/" + name)
        try:
            yield world
        finally:
            world.close()
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def _end_with(parent: int) -> None:
    """A process that was left behind would go on for hours."""
    while os.getppid() == parent:
        threading.Event().wait(1.0)
    os._exit(1)


def _begin(server: str, deadline: float, most: int, without: str) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    control_the_clock()
    _mine.update(deadline=deadline, most=most, server=server, without=without)
    _open()


def _open() -> None:
    number = multiprocessing.current_process()._identity[-1]  # type: ignore[attr-defined]
    stack = ExitStack()
    world = stack.enter_context(fresh_world(_mine["server"], f"explore_{number}"))
    stack.enter_context(mutated(_mine["without"], world))
    _mine.update(explorer=Explorer(world), stack=stack)


def _explore(case: Case) -> Result | str | None:
    if time.time() > _mine["deadline"]:
        return None
    try:
        return explore(_mine["explorer"], case, most=_mine["most"], deadline=_mine["deadline"])
    except (Stuck, Diverged, psycopg.Error, AssertionError) as broken:
        _mine["stack"].close()  # what is left of it would hinder all that follows
        _open()
        return f"{case}: {type(broken).__name__}: {broken}"


def explore(explorer: Explorer, case: Case, *, most: int, deadline: float = float("inf"), stop_at: str | None = "") -> Result:
    """All its schedules, and those in which a writer stands still."""
    began, ends = time.time(), explorer.ends_known
    result = explorer.explore(case, most=most, goes_on=lambda: time.time() < deadline, stop_at=stop_at)
    if freezable(case):
        frozen = explore_frozen(explorer, case)
        result.found.runs += frozen.found.runs
        known = {violation.problem for violation in result.violations}
        result.violations += [violation for violation in frozen.violations if violation.problem not in known]
    result.seconds, result.ends = time.time() - began, explorer.ends_known - ends
    return result


def explored(explorer: Explorer, cases: Iterable[Case], *, most: int) -> Iterator[Result]:
    yield from (explore(explorer, case, most=most) for case in cases)
