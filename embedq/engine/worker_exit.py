"""The end of a Celery worker's process: the same for every way in which it can come, and bounded.

    ending = Ending(within_s=20)
    ending.watch(parts, exit_code)        # in the process, and in each child of a pool of processes
    ending.begin()                        # from anywhere, also a signal handler

First nothing is claimed any more, then the register says that the worker is about to end, and what is under way gets `within_s` to
settle. What has not by then is handed back and the process ends, whatever its threads hang in: Python itself would wait for them.
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

# How long handing back may take, and Celery's own end after it, before the process is ended without.
LAST_S = 5.0


class Parts(Protocol):
    """Of a process that embeds: what its end needs."""

    @property
    def store(self) -> Store: ...
    @property
    def worker(self) -> Worker: ...
    @property
    def engine(self) -> Engine: ...


class Ending:
    """`begun` is set from the begin of the end on. `reserved()`: task ids of messages that are in hand and have no thread yet."""

    def __init__(self, within_s: float, reserved: Callable[[], Iterable[int]] = tuple) -> None:
        self.within_s, self.reserved = within_s, reserved
        self.begun = threading.Event()
        self._parts: Callable[[], Parts | None] = lambda: None
        # The end is told over a pipe: starting a thread from within a signal handler could wait for ever, and children hear of it too,
        # also when their parent was killed.
        heard, self._told = os.pipe()
        self._heard = [heard]
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Nothing is claimed from now on. Safe to call twice."""
        self.begun.set()
        self.stop_claims()
        told, self._told = self._told, -1
        if told >= 0:
            os.close(told)

    def stop_claims(self) -> None:
        """Also for parts that were made after the end had begun."""
        made = self._parts()
        if made is not None:
            made.worker.stopping.set()
            made.worker.ring()

    def forked(self) -> Ending:
        """The same end, in a child: its own, and that of its parent."""
        if self._told >= 0:
            os.close(self._told)
        child = copy(self)
        child.begun, child.reserved, child._thread = threading.Event(), tuple, None
        heard, child._told = os.pipe()
        child._heard = [*self._heard, heard]
        return child

    def watch(self, parts: Callable[[], Parts | None], leave: Callable[[], None]) -> None:
        """`parts`: this process's, as far as they are made; `leave` ends the process at once."""
        self._parts = parts
        self._thread = threading.Thread(target=self._watch, args=(leave,), name="embedq-end", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Begin, where nothing has yet, and wait until the worker is out of the register, within the bound."""
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
        """Whether all that was under way has ended in time; either way the worker is out of the register afterwards."""
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
