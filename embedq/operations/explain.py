"""Finds out why a task or an article is not searchable yet, from the table, the broker, the workers and the provider's state."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..broker import broker_at
from ..decide.explaining import Case, Place, reasons
from ..decide.facts import Finding
from ..decide.modes import LiveState
from ..endpoints import addresses
from ..errors import BrokerUnavailable, NotFound
from ..model import Delivery, TaskStatus
from ..settings import Settings
from ..store import Store
from ..store.database import Row
from .status import consumed


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer of `explain`. `where`: where the task's message is, as text. `others`: the article's tasks, the decisive one first."""

    task: Row | None
    article: Row | None
    live: LiveState
    case: Case
    where: str
    found: list[Finding]
    others: list[Row]


def explain(store: Store, settings: Settings, key: str) -> Explained:
    """Explain a task by its number, or an article by its id or slug. Raises NotFound."""
    return explained(store, settings, *find(store, key))


def explained(store: Store, settings: Settings, task: Row | None, article: Row | None) -> Explained:
    live = store.status.live()
    place, where = where_is(settings, task)
    case = case_of(store, task, article, live, place)
    others = store.overview.tasks_of(article["id"]) if article else []
    return Explained(task, article, live, case, where, reasons(case), others)


def find(store: Store, key: str) -> tuple[Row | None, Row | None]:
    """The task and its article; for an article, its decisive task. Raises NotFound."""
    task = store.overview.task(int(key)) if key.isdecimal() and len(key) < 19 else None
    article = store.overview.article(task["article_id"] if task else key)
    if task is None and article is not None:
        latest = store.overview.tasks_of(article["id"], 1)
        task = store.overview.task(latest[0]["id"]) if latest else None
    if task is None and article is None:
        raise NotFound(
            f"no task or article is called {key!r}", hint="`embedq articles list` and `embedq recent` show what there is"
        )
    return task, article


def case_of(store: Store, task: Row | None, article: Row | None, live: LiveState, place: Place) -> Case:
    workers = [worker for worker in store.workers.all() if worker["alive"]]
    celery = [worker for worker in workers if worker["delivery"] == Delivery.CELERY]
    priority = task["priority"] if task else "normal"
    provider = store.providers.state(task["provider"]) if task and task["provider"] else None
    trouble = provider if provider and provider.faults else None
    facts: dict[str, Any] = {}
    if task:
        facts = {
            "task": task["id"],
            "due_in_s": task["due_in_s"],
            "worker": task["worker"],
            "worker_alive": task["worker_alive"],
            "priority": priority,
            "claimed_s_ago": task["claimed_s_ago"] or 0.0,
            "error": task["error_message"],
            "is_paused": priority in live.paused_priorities or task["tenant_id"] in live.paused_tenants,
        }
    return Case(
        ready=bool(article and article["stored_hash"] == article["text_hash"]),
        status=TaskStatus(task["status"]) if task and _decides(task, article) else None,
        mode=live.mode,
        live_row_missing=live.missing,
        is_running=live.is_running,
        submissions_accepted=live.submissions_accepted,
        place=place,
        celery_workers=sum(priority in consumed([worker]) for worker in celery),
        pollers=sum(worker["delivery"] == Delivery.POLLER and priority in consumed([worker]) for worker in workers),
        provider_why=trouble.why if trouble else None,
        provider_left_s=trouble.left_s if trouble else 0.0,
        **facts,
    )


def _decides(task: Row, article: Row | None) -> bool:
    """Whether the task decides the article's state: a finished task of an older text does not."""
    return article is None or task["status"] in ("pending", "processing") or task["version"] >= article["version"]


def where_is(settings: Settings, task: Row | None) -> tuple[Place, str]:
    """Where the message of a pending task is, as a Place and as text."""
    if task is None or task["status"] != TaskStatus.PENDING or task["dispatched_at"] is None:
        return Place.TABLE, str(Place.TABLE)
    url = addresses(settings).broker_url
    try:
        with closing(broker_at(url)) as broker:
            return in_words(*broker.find_message(task["id"], task["priority"]))
    except BrokerUnavailable as away:
        return Place.UNSEEN, f"dispatched; {away}"


def in_words(place: Place, ahead: int | None) -> tuple[Place, str]:
    """The place as text. `ahead`: messages before it in its queue."""
    return place, str(place) if ahead is None else f"{place}, {ahead} messages ahead of it"
