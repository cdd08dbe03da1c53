"""The Celery app and its one task. `celery -A embedq worker` begins here.

The row comes first: when a run ends badly, the wait and the attempt are already committed in the table before Celery
hears of it; Celery's own retry only shortens short waits.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celery import Task, signals
from celery.apps import worker as celerys_worker
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.exceptions import Ignore, Reject

from . import logs
from .assemble import WorkerParts, addresses, agreed_model, share_memory, worker_parts
from .broker import TASK, is_redis, make_app
from .decide.retry import RetryPolicy, wait_s
from .engine import NextUrgent, TheseTasks
from .errors import EmbedqError, ProviderBusy, StoreUnavailable
from .express import Express, is_wanted
from .forks import in_each_child
from .settings import from_env

log = logging.getLogger(__name__)

# What waits longer than this waits in the row alone, and the steward dispatches it when it is due.
LONGEST_BROKER_WAIT_S = 10.0

share_memory()
settings = from_env(os.environ)
_addresses = addresses(settings)
app = make_app(_addresses.broker_url)
on_redis = is_redis(_addresses.broker_url)


def _keep(queue: str, raw: bytes) -> None:
    done = parts().store.rejected.take(queue, [raw])
    told = f"{done.made} tasks made, {done.freed} freed, {done.rejected} kept for review"
    log.warning("a message on %s that Celery cannot take: %s", queue, told)


if on_redis:
    from .broker import keeping

    keeping.install(_keep)
else:
    from .broker import consuming

    consuming.install(app, _keep)
app.conf.worker_concurrency = settings.concurrent_workers
_parts: WorkerParts | None = None
_lock = threading.Lock()


def parts() -> WorkerParts:
    """This process's parts, started at the first call: after a fork, in the child."""
    global _parts
    with _lock:
        if _parts is None:
            made = worker_parts(settings, "celery", name=_name, queues=_queues, concurrency=_concurrency)
            agreed_model(settings, made.store)
            made.start(settings)
            _parts = made
            _tell_that_it_ended()  # TERM may have come meanwhile
        return _parts


_name: str | None = None
_queues: Sequence[str] = ()
_concurrency, _in_threads = settings.concurrent_workers, True


class RetriedLikeTheRow(Task):  # type: ignore[misc]
    """Celery's autoretry, waiting as long as the row says instead of throwing its own dice.

    On RabbitMQ nothing is sent with a countdown: it would take up a thread's place in every worker that meets it. A wait for
    the provider is the row's alone; a message that could not be looked up goes back to its queue after the wait.
    """

    def retry(self, *args: Any, exc: BaseException | None = None, countdown: float | None = None, **options: Any) -> Any:
        wait = getattr(exc, "retry_after_s", None)
        if not on_redis:
            if isinstance(exc, ProviderBusy):
                raise Ignore
            _ended.wait(wait or LONGEST_BROKER_WAIT_S)
            raise Reject(exc, requeue=True)
        return super().retry(*args, exc=exc, countdown=countdown if wait is None else wait, **options)


@app.task(  # type: ignore[untyped-decorator]
    name=TASK, bind=True, base=RetriedLikeTheRow, ignore_result=True, throws=(ProviderBusy, StoreUnavailable),
    autoretry_for=(ProviderBusy, StoreUnavailable), max_retries=settings.max_retries,
    retry_backoff=max(1, settings.retry_backoff_base_ms // 1000), retry_backoff_max=LONGEST_BROKER_WAIT_S, retry_jitter=True,
)  # fmt: skip
def embed(self: Task, task_ids: list[int]) -> None:
    """Embed these tasks, as far as they are still to be embedded."""
    try:
        report = parts().engine.run(TheseTasks(task_ids))
    except StoreUnavailable as away:
        backoff = RetryPolicy(settings.max_retries, settings.retry_backoff_base_ms / 1000, LONGEST_BROKER_WAIT_S)
        away.retry_after_s = wait_s(self.request.retries + 1, backoff, parts().engine.dice())  # type: ignore[attr-defined]
        raise
    if not report.claimed and parts().worker.stopping.is_set():
        # Claimed by nobody, and the message is about to be acknowledged: the table has them again, at once.
        parts().store.tasks.free(task_ids)
    if report.busy is not None and report.wait_s <= LONGEST_BROKER_WAIT_S and self.request.retries < settings.max_retries:
        raise ProviderBusy(str(report.busy), hint=report.busy.hint, retry_after_s=report.wait_s)


@signals.after_setup_logger.connect  # type: ignore[untyped-decorator]
@signals.after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _log_as_the_settings_say(logger: logging.Logger, **_: Any) -> None:
    """Our own lines as in every other process; Celery's own have their level from its `--loglevel`."""
    logging.getLogger("embedq").setLevel(settings.log_level.upper())
    if settings.log_format == "json":
        for handler in logger.handlers:
            handler.setFormatter(logs.formatter("json"))


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _remember(sender: str, instance: Any, **_: Any) -> None:
    global _name, _queues, _concurrency, _in_threads
    _name = sender
    # As the command line has them; the settings are only the default.
    _concurrency, _in_threads = instance.concurrency, instance.pool_cls is ThreadPool
    _queues = sorted(queue for queue in instance.app.amqp.queues.consume_from)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    _start_when_possible()


def _start_when_possible() -> None:
    """Register and keep house from the start, not from the first message on; PostgreSQL may come later."""

    def begin() -> None:
        while True:
            try:
                parts().steward.start()
                if _in_threads and is_wanted(_queues):
                    _express.append(Express(parts().engine, _concurrency, NextUrgent, settings.worker_interval_s).start())
                return
            except EmbedqError as away:
                log.warning("%s; next: %s", away, away.hint)
                if _ended.wait(2.0):
                    return

    threading.Thread(target=begin, name="embedq-begin", daemon=True).start()


_ended = threading.Event()
_express: list[threading.Thread] = []


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_claiming(**_: Any) -> None:
    """TERM: what is being embedded settles, what was claimed and not sent yet is handed back, nothing new is claimed."""
    _ended.set()
    _tell_that_it_ended()


def _tell_that_it_ended() -> None:
    if _ended.is_set() and _parts is not None:
        _parts.worker.stopping.set()
        _parts.worker.ring()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _leave(**_: Any) -> None:
    if _parts is not None:
        for thread in _express:  # Celery has waited for its own threads
            thread.join(settings.worker_timeout_s)
        _parts.close()


def _say_if_anybody_reads(message: str, *out: Any) -> None:
    with suppress(OSError):
        _celerys_say(message, *out)


# Celery announces its end on stdout, from within the signal handler and before it does anything else. Where the reader of that pipe is gone
# (`embedq up` was killed, or `celery worker | tee`), the error took the place of the end: the worker went on for ever.
_celerys_say, celerys_worker.safe_say = celerys_worker.safe_say, _say_if_anybody_reads


def _begin_anew() -> WorkerParts | None:
    """After a fork (`--pool processes`, and a child that takes the place of one that ended)."""
    global _parts, _lock
    inherited, _parts, _lock = _parts, None, threading.Lock()
    _express.clear()
    return inherited


in_each_child(_begin_anew)
