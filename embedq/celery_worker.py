"""A process of Celery's that works for embedq: its hooks, its registration, its end. Installed by `celery_app.Loader` when Celery starts a worker."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import click
from celery import Celery, signals
from celery.apps import worker as celerys_worker
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state

from . import preflight
from .broker import Broker, broker_at
from .broker.whose import Whose
from .decide.modes import CLAIMS_NOTHING, claims_here
from .endpoints import addresses
from .engine.runs import NextUrgent
from .engine.urgent_lane import Express, is_wanted
from .engine.worker import NO_QUEUE
from .engine.worker_exit import Ending
from .errors import EmbedqError
from .forks import in_each_child
from .operations import crash
from .process import share_memory
from .settings import Settings, from_env
from .telemetry import logs
from .threads import Lasting
from .wiring import WorkerParts, agreed_model, worker_parts

log = logging.getLogger(__name__)

T = TypeVar("T")
# billiard's logger, which Celery gives a handler of its own.
OF_THE_POOL = "multiprocessing"


def _or_end(make: Callable[[], T]) -> T:
    """Started by Celery's command line, a refusal ends the process with its words: of an error that is raised to it, Celery shows the traceback."""
    if not _is_celerys_command():
        return make()
    made: list[T] = []
    code = crash.ended(lambda: made.append(make()), _complain)
    if not made:
        sys.exit(code)
    return made[0]


def _is_celerys_command() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().command.name == "celery"


def _complain(error: EmbedqError) -> None:
    sys.stderr.writelines(f"{line}\n" for line in crash.complaint(error))


@functools.cache
def settings() -> Settings:
    """This process's, read at the first call. Raises ConfigError."""
    return _or_end(lambda: from_env(os.environ))


@functools.cache
def broker_url() -> str:
    return _or_end(lambda: addresses(settings()).broker_url)


@functools.cache
def broker() -> Broker:
    """For questions about the broker's kind; nothing is connected by it."""
    return broker_at(broker_url())


class WorkerProcess:
    """What a worker's process has from its start on, and each child of a pool of processes after its fork."""

    def __init__(self, its_settings: Settings) -> None:
        self.settings = its_settings
        self.claims = claims_here(its_settings.switches)
        self.ending = Ending(its_settings.stop_timeout_s, _reserved)
        self.celerys: Any = None
        self.name: str | None = None
        self.queues: Sequence[str] = ()
        self.concurrency, self.in_threads = its_settings.concurrent_workers, True
        self._parts: WorkerParts | None = None
        self._whose: Whose | None = None
        self._lock = threading.Lock()
        self._own: list[threading.Thread] = []
        self._restarts = False

    def parts(self) -> WorkerParts:
        """This process's parts, started at the first call: after a fork, in the child."""
        with self._lock:
            if self._parts is None:
                made = worker_parts(self.settings, "celery", name=self.name, queues=self.queues, concurrency=self.concurrency)
                self._parts = made  # known to the end from its begin on, which registers it
                made.worker.with_each_beat.append(self._tell_queues)
                try:
                    agreed_model(self.settings, made.store)
                    made.start(self.settings)
                except BaseException:
                    self._parts = None
                    made.close()  # its heartbeat would go on for a worker that does nothing
                    raise
                if self.ending.begun.is_set():  # meanwhile: the end may have looked before it was registered
                    made.worker.stopping.set()
                    made.store.workers.leave(made.worker.id)
            return self._parts

    def _tell_queues(self) -> None:
        """The register has the queues that Celery consumes now: `cancel_consumer` and `add_consumer` change them."""
        made, now = self._parts, sorted(self.celerys.app.amqp.queues.consume_from) if self.celerys else self.queues
        if made is not None and list(now) != list(self.queues):
            self.queues, made.worker.queues = now, [*now] or [NO_QUEUE]
            made.store.workers.serve(made.worker.name, made.worker.queues)

    def whose(self) -> Whose:
        if self._whose is None:
            its = self.parts()
            self._whose = Whose(lambda: its.store.watch.identity, its.broker.installations)
        return self._whose

    def made(self) -> WorkerParts | None:
        return self._parts

    def log_as_the_settings_say(self, logger: logging.Logger, **_: Any) -> None:
        """Our own lines as in every other process; Celery's own have their level from its `--loglevel`."""
        logging.getLogger("embedq").setLevel(self.settings.log_level.upper())
        for handler in (*logger.handlers, *logging.getLogger(OF_THE_POOL).handlers):
            handler.setFormatter(logs.formatter(self.settings.log_format, handler.formatter))

    def remember(self, sender: str, instance: Any, **_: Any) -> None:
        self.name, self.celerys = sender, instance
        # As the command line has them; the settings are only the default.
        self.concurrency, self.in_threads = instance.concurrency, instance.pool_cls is ThreadPool
        queues = instance.app.amqp.queues
        self.queues = sorted(queues.consume_from)
        if not self.claims:
            # What a message names would wait until it is missed, each time it comes here: messages are left to workers that claim.
            log.warning("%s", CLAIMS_NOTHING)
            queues.deselect(list(self.queues))

    def begin(self, **_: Any) -> None:
        self._end_on_signals()
        self.ending.watch(self.made, self._leave_at_once)
        if self.claims:
            self._start_when_possible()

    def _start_when_possible(self) -> None:
        """Register and take part in the steward's election from the start, not from the first message on; PostgreSQL may come later."""
        begun = threading.Event()

        def begin() -> None:
            if not self.ending.begun.is_set():
                its_parts = self.parts()
                if not self._own:
                    self._own.append(its_parts.steward.start())
                if self.in_threads and is_wanted(self.queues):
                    Express(its_parts.engine, self.concurrency, NextUrgent, self.settings.worker_interval_s).start()
            begun.set()

        Lasting("embedq-begin", begun).start(begin)

    # The end -----------------------------------------------------------------------------------------------------------------------

    def _end_on_signals(self) -> None:
        """Before whatever Celery does on a signal: on QUIT it waits first, on HUP it says nothing to anybody.

        Without a HUP of Celery's (on a terminal) the default would end the process in mid-batch: then HUP is TERM. One that is ignored stays so.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            usual = signal.getsignal(number)
            if number == signal.SIGHUP and usual is signal.SIG_DFL:
                signal.signal(number, signal.getsignal(signal.SIGTERM))
            elif callable(usual):
                signal.signal(number, functools.partial(self._end_then, usual, number == signal.SIGHUP))

    def _end_then(self, usual: Callable[[int, Any], Any], restarts: bool, number: int, frame: Any) -> None:
        self._restarts = self._restarts or restarts
        self.ending.begin()
        usual(number, frame)

    def _leave_at_once(self) -> None:
        """Threads that hang would keep the process for as long as they do."""
        if self._restarts:
            celerys_worker._reload_current_worker()
        os._exit((self.celerys.exitcode or 0) if self.celerys is not None else 0)

    def stop_claiming(self, **_: Any) -> None:
        """What is being embedded settles, what was claimed and not sent yet is handed back, nothing new is claimed."""
        self.ending.begin()

    def leave(self, **_: Any) -> None:
        """At the exit too: after QUIT Celery sends no signal that the worker has shut down."""
        self.ending.finish()

    def begin_in_child(self, **_: Any) -> None:
        self.ending.watch(self.made, lambda: os._exit(0))

    def begin_anew(self) -> WorkerParts | None:
        """After a fork (`--pool processes`, and a child that takes the place of one that ended)."""
        inherited, self._parts, self._lock = self._parts, None, threading.Lock()
        self._whose = None
        self._own.clear()
        self.ending = self.ending.forked()
        return inherited


_worker: WorkerProcess | None = None


def worker() -> WorkerProcess:
    assert _worker is not None, "this process is no Celery worker of embedq's"
    return _worker


def begin_worker(app: Celery) -> None:
    """Make this process a worker of this app: called once, before Celery has made a connection or a thread."""
    global _worker
    if _worker is not None:
        return
    if _is_celerys_command():
        crash.guard_process(_complain)
    share_memory()
    _or_end(lambda: preflight.refuse(settings(), os.environ))
    _worker = WorkerProcess(settings())
    broker().install_consumer(app, _keep)
    _say_only_where_it_is_read()
    _connect(_worker)
    atexit.register(_worker.leave)
    in_each_child(_worker.begin_anew)


def _connect(made: WorkerProcess) -> None:
    for each in (signals.after_setup_logger, signals.after_setup_task_logger):
        each.connect(made.log_as_the_settings_say)
    signals.celeryd_after_setup.connect(made.remember)
    signals.worker_ready.connect(made.begin)
    signals.worker_shutting_down.connect(made.stop_claiming)
    signals.worker_process_init.connect(made.begin_in_child)
    # The second of a child that has done its number of tasks, or has grown too large, or is not needed any more.
    for each in (signals.worker_shutdown, signals.worker_process_shutdown):
        each.connect(made.leave)


def _keep(queue: str, raw: bytes) -> None:
    done = worker().parts().store.rejected.take(queue, [raw])
    told = f"{done.made} tasks made, {done.freed} freed, {done.rejected} kept for review"
    log.warning("a message on %s that Celery cannot take: %s", queue, told)


def _reserved() -> list[int]:
    """Task ids of the messages that Celery has taken."""
    return [task for request in list(state.reserved_requests) for task in request.args[0]]


def _say_only_where_it_is_read() -> None:
    """Celery announces its end on stdout, from within the signal handler and before it does anything else. Where the reader of that pipe is
    gone (`embedq up` was killed, or `celery worker | tee`), the error would take the place of the end: the worker would go on for ever."""
    usual = celerys_worker.safe_say

    def say(message: str, *out: Any) -> None:
        with suppress(OSError):
            usual(message, *out)

    celerys_worker.safe_say = say
