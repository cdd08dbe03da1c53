"""The Celery app and its one task. `celery -A embedq worker` begins here.

Importing this module defines the app and does nothing else, so that any process may import it: settings are read when Celery first asks for
its configuration, and what a worker needs (hooks, signal handlers, threads; `celery_worker`) is installed when a worker starts (`Loader`).

The row comes first: when a run ends badly, the wait and the attempt are already committed in the table before Celery
hears of it; Celery's own retry only shortens short waits.
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

# What waits longer than this waits in the row alone, and the steward dispatches it when it is due.
LONGEST_BROKER_WAIT_S = 10.0


class Loader(AppLoader):  # type: ignore[misc]
    """Celery's own, which also makes this process a worker of ours when Celery starts one."""

    def on_worker_init(self) -> None:
        begin_worker(app)


# Not the process's current app until a worker runs: a web process that imports it may have one of its own.
app = lazy_app(broker_url, set_as_current=False, loader=Loader)
app.add_defaults(lambda: {"worker_concurrency": settings().concurrent_workers})


class RetriedLikeTheRow(Task):  # type: ignore[misc]
    """Celery's autoretry, waiting as long as the row says instead of a random time of its own.

    On RabbitMQ nothing is sent with a countdown: it would take up a thread's place in every worker that meets it. A wait for
    the provider is the row's alone; a message that could not be looked up goes back to its queue after the wait.
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
    """Embed these tasks, as far as they are still to be embedded."""
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
    """Every way out of Celery's loop closes its steps: TERM, `control shutdown`, an unexpected error."""

    def close(self, parent: Any) -> None:
        worker().ending.begin()


app.steps["worker"].add(Ends)
