"""`embedq explain` and `embedq audit`: why things are as they are, and who made them so."""

from __future__ import annotations

import os
from typing import Any

import click

from .. import assemble
from ..broker import is_redis
from ..decide.explaining import Case, Place, attempts_told, reasons
from ..errors import BrokerUnavailable, InputError, NotFound
from ..model import Delivery, Mode, TaskStatus
from ..settings import Settings, from_env
from ..store import Store
from ..store.database import Row
from ..wellbeing import consumed, find_message
from .fences import opened
from .overview import told
from .voice import Answer, Table, command, lasting

MOMENT = "%Y-%m-%d %H:%M:%S"
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@command(name="explain")
@click.argument("key", metavar="TASK|ARTICLE")
def explain(key: str) -> Answer:
    """Why is it not searchable yet? Text, task, lease holder, message, next try, every error, provider and mode, in one screen.

    Example:  embedq explain tea
    """
    settings = from_env(os.environ)
    with opened() as store:
        task, article = find(store, key)
        live = store.status.live() or {"mode": settings.mode, "is_running": False}
        place, where = where_is(settings, task)
        case = case_of(store, task, article, live, place)
        others = store.overview.tasks_of(article["id"]) if article else []
    found = reasons(case)
    data = {
        "article": article,
        "task": task,
        "message": where,
        "mode": live["mode"],
        "reasons": [r._asdict() for r in found],
        "tasks": others,
    }
    said: list[str | Table] = [
        *told(found),
        Table(("", ""), [*_article_rows(article), *_task_rows(task, where), *_live_rows(live, case)]),
    ]
    if task and task["errors"]:
        columns = ("at", "attempt", "error", "message", "worker", "delivery")
        said.append(Table(columns, attempts_told(task["errors"]), "Every attempt that failed"))
    return Answer(data, said)


def find(store: Store, key: str) -> tuple[Row | None, Row | None]:
    """The task and its article; of an article, the task that decides. Raises NotFound when there is neither."""
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


def case_of(store: Store, task: Row | None, article: Row | None, live: Row, place: Place) -> Case:
    workers = [worker for worker in store.workers.all() if worker["alive"]]
    celery = [worker for worker in workers if worker["delivery"] == Delivery.CELERY]
    priority = task["priority"] if task else "normal"
    provider = store.models.state(task["provider"]) if task and task["provider"] else None
    trouble = provider if provider and provider["faults"] else None
    facts: dict[str, Any] = {}
    if task:
        facts = {
            "task": task["id"],
            "due_in_s": task["due_in_s"], "worker": task["worker"], "worker_alive": task["worker_alive"], "priority": priority,
            "claimed_s_ago": task["claimed_s_ago"] or 0.0, "error": task["error_message"],
            "is_paused": priority in live.get("paused_priorities", ()) or task["tenant_id"] in live.get("paused_tenants", ()),
        }  # fmt: skip
    return Case(
        ready=bool(article and article["stored_hash"] == article["text_hash"]),
        status=TaskStatus(task["status"]) if task and _decides(task, article) else None,
        mode=Mode(live["mode"]),
        is_running=live["is_running"],
        submissions_accepted=live.get("submissions_accepted", True),
        place=place,
        celery_workers=sum(priority in consumed([worker]) for worker in celery),
        pollers=sum(worker["delivery"] == Delivery.POLLER and priority in consumed([worker]) for worker in workers),
        provider_why=trouble["pause_reason"] if trouble else None,
        provider_left_s=trouble["pause_s"] if trouble else 0.0,
        **facts,
    )


def _decides(task: Row, article: Row | None) -> bool:
    """A finished task of an older text says nothing about the newest one."""
    return article is None or task["status"] in ("pending", "processing") or task["version"] >= article["version"]


def where_is(settings: Settings, task: Row | None) -> tuple[Place, str]:
    """Where the message of a pending task is, and the same in words."""
    if task is None or task["status"] != TaskStatus.PENDING or task["dispatched_at"] is None:
        return Place.TABLE, str(Place.TABLE)
    url = assemble.addresses(settings).broker_url
    if not is_redis(url):
        return Place.UNSEEN, str(Place.UNSEEN)
    try:
        return in_words(find_message(url, task["id"], task["priority"]))
    except BrokerUnavailable as away:
        return Place.UNSEEN, f"dispatched; {away}"


def in_words(ahead: int | None) -> tuple[Place, str]:
    """`ahead`: messages before it in its queue; -1: delivered; None: nowhere."""
    if ahead is None:
        return Place.NOWHERE, str(Place.NOWHERE)
    if ahead < 0:
        return Place.DELIVERED, str(Place.DELIVERED)
    return Place.QUEUED, f"{Place.QUEUED}, {ahead} messages ahead of it"


def _article_rows(article: Row | None) -> list[tuple[str, object]]:
    if article is None:
        return [("article", "there is none (any more)")]
    changed = f"changed {article['updated_at']:{MOMENT}}, hash {article['text_hash'].hex()[:12]}"
    return [
        ("article", f"{article['id']} ({article['title']!r}, tenant {article['tenant_id']}): {article['embedding_status']}"),
        ("text", f"version {article['version']}, {article['characters']:,} characters, {changed}"),
        ("vector", _vector_told(article)),
    ]


def _vector_told(article: Row) -> str:
    if article["stored_hash"] is None:
        return "none"
    which = "of the newest text" if article["stored_hash"] == article["text_hash"] else "of an older text"
    return f"{which}, made {article['embedded_at']:{MOMENT}}"


def _task_rows(task: Row | None, where: str) -> list[tuple[str, object]]:
    if task is None:
        return [("task", "none")]
    made_for, active = task["metadata"].get("reason"), "" if task["of_active_model"] else " (not the active one)"
    rows: list[tuple[str, object]] = [
        ("task", f"{task['id']}: {task['status']}, {task['priority']}, {task['attempts']} attempts, made for {made_for}"),
        ("model", f"{task['provider']}/{task['model_name']}/{task['dimensions']}{active}"),
    ]
    if task["status"] == TaskStatus.PENDING:
        due = "now" if task["due_in_s"] <= 0 else f"in {lasting(task['due_in_s'])}"
        rows += [("message", where), ("due", due)]
    if task["lease_holder"] is not None:
        alive = "alive" if task["worker_alive"] else "dead"
        rows.append(("held by", f"{task['worker'] or task['lease_holder']} ({alive}) for {lasting(task['claimed_s_ago'])}"))
    if task["error_message"]:
        rows.append(("last error", f"{task['error_class'] or ''} {task['error_message']}".strip()))
    return rows


def _live_rows(live: Row, case: Case) -> list[tuple[str, object]]:
    running = "" if live["is_running"] else ", stopped"
    provider = "well" if case.provider_why is None else f"in trouble: {case.provider_why}"
    return [("mode", f"{live['mode']}{running} ({live.get('reason')})"), ("provider", provider),
            ("who may take it", f"{case.celery_workers} Celery workers on queue {case.priority}, {case.pollers} pollers")]  # fmt: skip


@command(name="audit")
@click.option("--category", help="mode, stop, cancel, retry, rescue, provider, …")
@click.option("--level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--since", metavar="AGE", help="No older than 90s, 30m, 6h or 7d.")
@click.option("--like", metavar="TEXT", help="Only lines with this in the message or its data: a person, a tenant, …")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
def audit(category: str | None, level: str | None, since: str | None, like: str | None, limit: int) -> Answer:
    """Who did what, when and why; the last first.

    Example:  embedq audit --since 6h --category cancel
    """
    since_s = seconds_of(since) if since else None
    with opened() as store:
        rows = store.overview.audit(category=category, level=level, since_s=since_s, like=like, limit=limit)
    cells = [(r["timestamp"], r["level"], r["category"], r["message"], r["metadata"].get("who")) for r in rows]
    return Answer(rows, [Table(("when", "level", "category", "what", "who"), cells)] if rows else ["nothing is on record"])


def seconds_of(age: str) -> float:
    """The seconds in 90s, 30m, 6h, 7d. Raises InputError."""
    try:
        return float(age[:-1]) * AGES[age[-1:]]
    except (ValueError, KeyError):
        raise InputError(f"{age!r} is not a span of time", hint="write 90s, 30m, 6h or 7d", field="since") from None
