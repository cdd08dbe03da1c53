"""The loop of every thread that runs as long as its process. No exception ends it; repeated failures are reported.

Each failure is logged, from the `SERIOUS`th in a row on as an error. A worker's heartbeat reports such threads, and `embedq health` names them.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from .decide import refusals
from .errors import EmbedqError

log = logging.getLogger(__name__)

PAUSE_S = 1.0
SERIOUS = 5
AWAY = (EmbedqError, psycopg.Error)


class Lasting:
    """A thread's loop, until `stop` is set. `failures`: consecutive failures; `why`: the message of the last one."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        self.name, self.stop = name, stop
        self.failures = 0
        self.why = ""

    @property
    def fails(self) -> bool:
        """Whether it has failed `SERIOUS` times in a row or more."""
        return self.failures >= SERIOUS

    def start(self, once: Callable[[], object]) -> threading.Thread:
        """Start a daemon thread that calls `once()` in a loop."""
        thread = threading.Thread(target=self.keep_on, args=(once,), name=self.name, daemon=True)
        thread.start()
        return thread

    def keep_on(self, once: Callable[[], object]) -> None:
        """Call `once()` in a loop, with a pause after a failure."""
        while not self.stop.is_set():
            with self.attempt():
                once()
            if self.failures:
                self.stop.wait(PAUSE_S * random.uniform(0.5, 1.0))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Log and count whatever the block raises."""
        try:
            yield
            self.succeeded()
        except Exception as failed:
            self._say(failed, self.failed(failed))

    def succeeded(self) -> None:
        """No failure in a row."""
        self.failures = 0

    def failed(self, why: Exception) -> EmbedqError | None:
        """One more failure in a row. Returns what the exception means to an operator, if that is known."""
        self.failures += 1
        refused = refusals.of_error(why)
        self.why = _told(why, refused)
        return refused

    def _say(self, failed: Exception, refused: EmbedqError | None) -> None:
        expected = refused is not None or isinstance(failed, AWAY)
        level = logging.ERROR if self.fails or not expected else logging.WARNING
        again = f" ({self.failures} times in a row)" if self.failures > 1 else ""
        log.log(level, "%s goes on after a failure%s: %s", self.name, again, self.why, exc_info=None if expected else failed)


def _told(failed: Exception, refused: EmbedqError | None) -> str:
    try:
        words = f"{refused}; next: {refused.hint}" if refused is not None else str(failed)
        return f"{type(failed).__name__}: {words}"
    except Exception:  # str() of the exception failed: its class is all there is
        return type(failed).__name__
