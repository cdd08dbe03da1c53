"""The shutdown of a Celery worker process: the same for every cause, and bounded in time.

    ending = Ending(within_s=20)
    ending.watch(parts, exit_code)        # in the process, and in each child of a pool of processes
    ending.begin()                        # from anywhere, also a signal handler

Claims stop, the worker is marked as ending, and batches under way get `within_s` to settle. Then the remaining tasks are handed back and
the process exits without joining its threads, which may hang.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING, Protocol

import psycopg

from ..errors import EmbedqError

if TYPE_CHECKING:
    from ..store import Store
    from .engine import Engine
    from .worker import Worker

log = logging.getLogger(__name__)

# Seconds for handing back tasks and for Celery's own shutdown; then the process is ended.
LAST_S = 5.0


class Parts(Protocol):
    """The parts of a worker process that its shutdown uses."""

    @property
    def store(self) -> Store: ...
    @property
    def worker(self) -> Worker: ...
    @property
    def engine(self) -> Engine: ...


class Ending:
    """`begun` is set when the shutdown begins. `reserved()`: task ids of messages that were received and not started."""

    def __init__(self, within_s: float, reserved: Callable[[], Iterable[int]] = tuple) -> None:
        self.within_s, self.reserved = within_s, reserved
        self.begun = threading.Event()
        self._parts: Callable[[], Parts | None] = lambda: None
        # Signalled by closing a pipe: starting a thread in a signal handler could deadlock. Children see it too, also when their parent was killed.
        heard, self._told = os.pipe()
        self._heard = [heard]
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin the shutdown: no new claims. Callable from a signal handler; safe to call twice."""
        self.begun.set()
        self.stop_claims()
        told, self._told = self._told, -1
        if told >= 0:
            os.close(told)

    def stop_claims(self) -> None:
        """Stop claims of the parts, also if they were made after the shutdown began."""
        made = self._parts()
        if made is not None:
            made.worker.stopping.set()
            made.worker.ring()

    def forked(self) -> Ending:
        """The object for a forked child: it begins when the child's own or the parent's shutdown begins."""
        if self._told >= 0:
            os.close(self._told)
        child = copy(self)
        child.begun, child.reserved, child._thread = threading.Event(), tuple, None
        heard, child._told = os.pipe()
        child._heard = [*self._heard, heard]
        return child

    def watch(self, parts: Callable[[], Parts | None], leave: Callable[[], None]) -> None:
        """Start the thread that carries out the shutdown. `parts()`: this process's parts, or None; `leave()` ends the process at once."""
        self._parts = parts
        self._thread = threading.Thread(target=self._watch, args=(leave,), name="embedq-end", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Begin the shutdown if it has not begun, and wait, within the bound, until the worker is unregistered."""
        self.begin()
        if self._thread is not None:
            self._thread.join(self.within_s + LAST_S)
        made = self._parts()
        if made is not None:
            made.worker.stop()

    def _watch(self, leave: Callable[[], None]) -> None:
        select.select(self._heard, [], [])
        self.begin()
        last = threading.Timer(self.within_s + LAST_S, leave)
        last.daemon = True
        last.start()
        if not self._settled():
            leave()

    def _settled(self) -> bool:
        """Whether all batches settled in time; the worker is unregistered in either case."""
        made = self._parts()
        if made is None:
            return True
        deadline = time.monotonic() + self.within_s
        made.worker.announce_end()
        settled = made.engine.gate.wait_empty(deadline)
        if not settled:
            log.warning("what is under way has not settled within %g s and is handed back", self.within_s)
            self._free_reserved(made)
        made.worker.stop()
        return settled

    def _free_reserved(self, made: Parts) -> None:
        try:
            made.store.tasks.free(list(self.reserved()))
        except (EmbedqError, psycopg.Error) as away:
            log.warning("the steward of another worker frees what this one had not begun: %s", away)
