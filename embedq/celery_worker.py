"""embedq's part of a Celery worker process: hooks, registration, shutdown. Installed by `celery_app.Loader` when Celery starts a worker."""

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
from .broker import Broker, broker_at, remote_control
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
# billiard's logger; Celery installs a separate handler for it.
OF_THE_POOL = "multiprocessing"


def _or_end(make: Callable[[], T]) -> T:
    """Call `make`. Under Celery's command line an expected error is printed and the process exits with its code, because Celery would print
    a traceback."""
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
    """The settings of this process, read at the first call. Raises ConfigError."""
    return _or_end(lambda: from_env(os.environ))


@functools.cache
def broker_url() -> str:
    """The broker's URL for Celery, with its password. Raises ConfigError."""
    return _or_end(lambda: addresses(settings()).broker_url)


@functools.cache
def broker() -> Broker:
    """The broker object, for questions about its kind; it opens no connection."""
    return broker_at(broker_url())


class WorkerProcess:
    """State of a Celery worker process. A child of a process pool resets it after the fork (`begin_anew`)."""

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
                self._parts = made  # set before start(), which registers the worker, so that the shutdown sees it
                made.worker.with_each_beat.append(self._tell_queues)
                try:
                    agreed_model(self.settings, made.store)
                    made.start(self.settings)
                except BaseException:
                    self._parts = None
                    made.close()  # else the heartbeat thread would keep an idle worker registered
                    raise
                if self.ending.begun.is_set():  # the shutdown began during the start, and may have run before the registration
                    made.worker.stopping.set()
                    made.store.workers.leave(made.worker.id)
            return self._parts

    def _tell_queues(self) -> None:
        """Update the registered queues: `cancel_consumer` and `add_consumer` change what Celery consumes."""
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
        """embedq's loggers use EMBEDDING_LOG_LEVEL as in every other process; Celery's use its `--loglevel`."""
        logging.getLogger("embedq").setLevel(self.settings.log_level.upper())
        for handler in (*logger.handlers, *logging.getLogger(OF_THE_POOL).handlers):
            handler.setFormatter(logs.formatter(self.settings.log_format, handler.formatter))

    def remember(self, sender: str, instance: Any, **_: Any) -> None:
        self.name, self.celerys = sender, instance
        # The values of Celery's command line; embedq's settings are only their defaults.
        self.concurrency, self.in_threads = instance.concurrency, instance.pool_cls is ThreadPool
        queues = instance.app.amqp.queues
        self.queues = sorted(queues.consume_from)
        if not self.claims:
            # A worker that may not claim would acknowledge messages without effect, and their tasks would wait until the steward misses
            # them. So it consumes nothing.
            log.warning("%s", CLAIMS_NOTHING)
            queues.deselect(list(self.queues))

    def begin(self, **_: Any) -> None:
        self._end_on_signals()
        self.ending.watch(self.made, self._leave_at_once)
        if self.claims:
            self._start_when_possible()

    def _start_when_possible(self) -> None:
        """Register and run for steward now instead of at the first message; retried until PostgreSQL answers."""
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
        """Begin embedq's shutdown before Celery's signal handlers: on QUIT Celery waits first, on HUP it sends no shutdown signal.

        Where Celery handles no HUP (on a terminal), the default action would kill the process in the middle of a batch: then HUP acts as
        TERM. A HUP that is ignored stays ignored.
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
        """Exit without joining threads, because a thread that hangs would keep the process alive. After HUP, restart."""
        if self._restarts:
            celerys_worker._reload_current_worker()
        os._exit((self.celerys.exitcode or 0) if self.celerys is not None else 0)

    def stop_claiming(self, **_: Any) -> None:
        """Begin the shutdown: no new claims; batches at the provider settle; tasks claimed and not sent yet are handed back."""
        self.ending.begin()

    def leave(self, **_: Any) -> None:
        """Finish the shutdown. Also registered with atexit, because Celery sends no `worker_shutdown` signal after QUIT."""
        self.ending.finish()

    def begin_in_child(self, **_: Any) -> None:
        self.ending.watch(self.made, lambda: os._exit(0))

    def begin_anew(self) -> WorkerParts | None:
        """Reset the state in a forked child (`--pool processes`, also for a child that replaces one that ended)."""
        inherited, self._parts, self._lock = self._parts, None, threading.Lock()
        self._whose = None
        self._own.clear()
        self.ending = self.ending.forked()
        return inherited


_worker: WorkerProcess | None = None


def worker() -> WorkerProcess:
    """This worker process's state; `begin_worker` must have run."""
    assert _worker is not None, "this process is no Celery worker of embedq's"
    return _worker


def begin_worker(app: Celery) -> None:
    """Install embedq's hooks in this worker process. Called once, before Celery opens a connection or starts a thread."""
    global _worker
    if _worker is not None:
        return
    if _is_celerys_command():
        crash.guard_process(_complain)
    share_memory()
    _or_end(lambda: preflight.refuse(settings(), os.environ))
    _worker = WorkerProcess(settings())
    broker().install_consumer(app, _keep)
    remote_control.install()
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
    # worker_process_shutdown: sent in a child that reached its task or memory limit, or that a smaller pool does not need.
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
    """Ignore write errors when Celery announces its shutdown on stdout. It does so first in its signal handler: if the reader of the pipe
    is gone (`embedq up` was killed, or `celery worker | tee`), the error would abort the shutdown and the worker would run for ever."""
    usual = celerys_worker.safe_say

    def say(message: str, *out: Any) -> None:
        with suppress(OSError):
            usual(message, *out)

    celerys_worker.safe_say = say
