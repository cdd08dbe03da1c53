"""The console's pages at a million tasks and a million articles."""

from __future__ import annotations

from collections.abc import Iterator

from tests.acceptance.service import FOR_ADMIN, Served, serving

from . import filling
from .figures import Figure, alone
from .world import World, Yard, seconds

LIMIT_S = 0.15
ROUNDS = 7
# name -> address; `{old}` is a task in the middle.
PAGES = {
    "tasks": "/tasks",
    "tasks, from the middle": "/tasks?after={old}",
    "tasks, oldest first": "/tasks?sort=oldest",
    "tasks, ended last first": "/tasks?sort=ended",
    "tasks that failed": "/tasks?status=failed",
    "tasks that failed, of one class and tenant": "/tasks?status=failed&error=ProviderBusy&tenant=tenant3",
    "tasks that wait": "/tasks?status=pending",
    "tasks of one article": "/tasks?article=a77",
    "tasks of a rare kind": "/tasks?source=import",
    "tasks by a text": "/tasks?text=nowhere",
    "retry, to be confirmed": "/tasks/act/retry?status=failed",
    "one task": "/tasks/{old}",
    "one article": "/articles/a77",
    "errors": "/errors",
    "errors of one class, 7 days": "/errors?error=ProviderBusy&window=7d",
    "workers": "/workers",
    "queues, 10 minutes": "/queues",
    "queues, 7 days": "/queues?window=7d",
    "models": "/models",
    "procedures": "/procedures",
    "audit": "/audit",
    "audit, by a text": "/audit?text=nowhere",
    "cockpit": "/",
}


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Each page several times; the first, which compiles its template, is left out. A hundred thousand tasks wait, fifty thousand failed."""
    size = 20_000 if quick else 1_000_000
    with world.yard(dimensions=8) as yard, serving(yard.environment) as served:
        _fill(yard, size)
        for name, address in PAGES.items():
            path = address.format(old=size // 2)
            _get(served, path)
            timed = [seconds(lambda: _get(served, path)) for _ in range(ROUNDS)]  # noqa: B023
            yield alone(f"{name}, of {size:,} tasks", "s", timed, at_most=LIMIT_S)


def _get(served: Served, path: str) -> None:
    answer = served.stranger.get(path, headers=FOR_ADMIN)
    assert answer.status_code == 200, answer.text


def _fill(yard: Yard, size: int) -> None:
    done, failed = size * 9 // 10, size // 20
    filling.articles(yard, 1, size)
    filling.embedded(yard, 1, done)
    filling.waiting(yard, done + 1, size)
    yard.sql(
        "UPDATE embedding_tasks SET completed_at = now() - id * interval '0.1 s',"
        " created_at = now() - interval '1 day' - id * interval '0.1 s' WHERE status = 'completed'"
    )
    yard.sql(
        "UPDATE embedding_tasks SET status = 'failed', error_class = CASE WHEN id %% 3 = 0 THEN 'ProviderBusy' ELSE 'InputRefused' END,"
        " error_message = 'refused after ' || id WHERE id %% 18 = 0 AND status = 'completed' AND id <= %s",
        failed * 18,
    )
    yard.sql(
        "INSERT INTO performance_metrics (timestamp, metric, labels, value) SELECT now() - n * interval '10 s', 'depth', jsonb_build_object("
        "'status', 'pending', 'priority', p, 'dispatched', d), n FROM generate_series(1, %s::int) n, unnest(ARRAY['urgent', 'high', 'normal', 'low']) p,"
        " unnest(ARRAY[true, false]) d",
        size * 60_480 // 1_000_000,
    )
    yard.sql(
        "INSERT INTO performance_metrics (timestamp, metric, labels, value) SELECT now() - n * interval '10 s', 'settled',"
        " jsonb_build_object('status', s, 'delivery', 'poller'), 7 FROM generate_series(1, %s::int) n, unnest(ARRAY['completed', 'failed']) s",
        size * 60_480 // 1_000_000,
    )
    yard.sql(
        "INSERT INTO embedding_audit_logs (category, message) SELECT 'retry', 'entry ' || n FROM generate_series(1, %s::int) n",
        size // 5,
    )
    filling.settle_down(yard)
    yard.sql("VACUUM (ANALYZE) performance_metrics")
    yard.sql("VACUUM (ANALYZE) embedding_audit_logs")
