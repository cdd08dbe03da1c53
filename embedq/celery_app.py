"""The Celery app and its one task. `celery -A embedq worker` begins here.

Importing this module defines the app and does nothing else, so that any process may import it: settings are read when Celery first asks for
its configuration, and what a worker needs (hooks, signal handlers, threads; `celery_worker`) is installed when a worker starts (`Loader`).

The task's row is written first: when a run fails, the attempt and the next time are committed in the table before Celery learns of the
failure. Celery's own retry only shortens short waits.
"""

from __future__ import annotations

from typing import Any

from celery import Task, bootsteps
from celery.exceptions import Ignore, Reject
from celery.loaders.app import AppLoader

from .broker import OF, TASK, lazy_app
from .broker.whose import HOLD_S
from .celery_worker import begin_worker, broker, broker_url, settings, worker
from .decide.retry import RetryPolicy, wait_s
from .engine.runs import TheseTasks
from .errors import ProviderBusy, StoreUnavailable

# Longer waits are kept in the task's row only; the steward dispatches the task when it is due.
LONGEST_BROKER_WAIT_S = 10.0


class Loader(AppLoader):  # type: ignore[misc]
    """Celery's loader; when Celery starts a worker, it also installs embedq's hooks (`celery_worker.begin_worker`)."""

    def on_worker_init(self) -> None:
        begin_worker(app)


# Not set as the process's current app on import: a web process that imports this module may have its own Celery app.
app = lazy_app(broker_url, set_as_current=False, loader=Loader)
app.add_defaults(lambda: {"worker_concurrency": settings().concurrent_workers})


class RetriedLikeTheRow(Task):  # type: ignore[misc]
    """Celery's autoretry with the wait that the task's row has, instead of Celery's own random wait.

    On RabbitMQ nothing is sent with a countdown, because each such message occupies a prefetch slot in the worker that holds it. Waits for
    the provider are kept in the row only. When PostgreSQL could not be asked, the message is requeued after the wait.
    """

    @property
    def max_retries(self) -> int:
        return settings().max_retries

    def retry(self, *args: Any, exc: BaseException | None = None, countdown: float | None = None, **options: Any) -> Any:
        said = getattr(exc, "retry_after_s", None)
        wait = LONGEST_BROKER_WAIT_S if said is None else said
        if not broker().delays_messages:
            if isinstance(exc, ProviderBusy):
                raise Ignore
            worker().ending.begun.wait(wait or LONGEST_BROKER_WAIT_S)
            raise Reject(exc, requeue=True)
        return super().retry(*args, exc=exc, countdown=wait, **options)


@app.task(  # type: ignore[untyped-decorator]
    name=TASK,
    bind=True,
    base=RetriedLikeTheRow,
    ignore_result=True,
    throws=(ProviderBusy, StoreUnavailable),
    autoretry_for=(ProviderBusy, StoreUnavailable),
)
def embed(self: Task, task_ids: list[int]) -> None:
    """Embed those of these tasks that are still pending."""
    engine = None
    try:
        engine = worker().parts().engine
        if worker().whose().of_another(self.request.get(OF)):
            worker().ending.begun.wait(HOLD_S)
            raise Reject("it is another installation's", requeue=True)
        report = engine.run(TheseTasks(task_ids))
    except StoreUnavailable as away:
        policy = RetryPolicy(self.max_retries, settings().retry_backoff_base_ms / 1000, LONGEST_BROKER_WAIT_S)
        dice = engine.dice() if engine is not None else 1.0
        away.retry_after_s = wait_s(self.request.retries + 1, policy, dice)  # type: ignore[attr-defined]
        raise
    if report.busy is not None and report.wait_s <= LONGEST_BROKER_WAIT_S and self.request.retries < self.max_retries:
        raise ProviderBusy(str(report.busy), hint=report.busy.hint, retry_after_s=report.wait_s)


class Ends(bootsteps.StartStopStep):  # type: ignore[misc]
    """Stop the worker's bootsteps however Celery's loop ends: TERM, `control shutdown`, an unexpected error."""

    def close(self, parent: Any) -> None:
        worker().ending.begin()


app.steps["worker"].add(Ends)
