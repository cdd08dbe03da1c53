"""The loop of a thread: nothing that is raised ends it, and repeated failure is seen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from embedq import threads
from embedq.errors import StoreUnavailable
from embedq.threads import SERIOUS, Lasting


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PAUSE_S", 0.0)


def failing(times: int, error: Exception, stop: threading.Event) -> Callable[[], None]:
    """Raises that many times, then ends the loop."""
    left = [times]

    def once() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        stop.set()

    return once


@pytest.mark.parametrize(
    "error", [ValueError("port"), StoreUnavailable("away", hint="x"), Unspeakable(), MemoryError(), KeyError("throttle")]
)
def test_a_thread_goes_on_after(error: Exception) -> None:
    stop = threading.Event()
    thread = Lasting("a thread", stop).start(failing(3, error, stop))

    thread.join(10)

    assert stop.is_set()


def test_failing_again_and_again_is_an_error_and_success_forgets_it(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    loop = Lasting("a thread", stop)
    away = StoreUnavailable("away", hint="x")

    with caplog.at_level(logging.INFO):
        for _ in range(SERIOUS):
            with loop.attempt():
                raise away
    seen = loop.fails
    with loop.attempt():
        pass

    assert (seen, loop.fails) == (True, False)
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING] * (SERIOUS - 1) + [logging.ERROR]
    assert f"({SERIOUS} times in a row)" in caplog.text
