"""`embedq explain` and `embedq audit`: why an article is not searchable yet, and who changed what."""

from __future__ import annotations

import os

import click

from ..decide.explaining import Case, attempts_told
from ..decide.modes import LiveState, deliveries
from ..decide.spans import seconds_of
from ..model import Delivery, TaskStatus
from ..operations.explain import explain as explain_key
from ..settings import from_env
from ..store.database import Row
from .fences import opened
from .overview import told
from .voice import Answer, Table, command, lasting

MOMENT = "%Y-%m-%d %H:%M:%S"


@command(name="explain")
@click.argument("key", metavar="TASK|ARTICLE|SOURCE")
@click.argument("of_row", nargs=-1, metavar="[KEY…]")
def explain(key: str, of_row: tuple[str, ...]) -> Answer:
    """Why an article is not searchable yet: text, task, lease holder, message, next try, every error, provider and mode, in one screen.

    Of a source's row: the source and the row's key, column by column.

    Example:  embedq explain tea; embedq explain posts 42
    """
    with opened() as store:
        key = store.sources.article_of(key, of_row) if of_row else key
        seen = explain_key(store, from_env(os.environ), key)
    task, article, live = seen.task, seen.article, seen.live
    data = {
        "article": article,
        "task": task,
        "message": seen.where,
        "mode": live.mode,
        "reasons": [r._asdict() for r in seen.found],
        "tasks": seen.others,
    }
    said: list[str | Table] = [
        *told(seen.found),
        Table(("", ""), [*_article_rows(article), *_task_rows(task, seen.where), *_live_rows(live, seen.case)]),
    ]
    if task and task["errors"]:
        columns = ("at", "attempt", "error", "message", "worker", "delivery")
        said.append(Table(columns, attempts_told(task["errors"]), "Every attempt that failed"))
    return Answer(data, said)


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


def _live_rows(live: LiveState, case: Case) -> list[tuple[str, object]]:
    running = "" if live.is_running else ", stopped"
    provider = "well" if case.provider_why is None else f"in trouble: {case.provider_why}"
    return [("mode", f"{live.mode}{running} ({live.reason})"), ("provider", provider), ("who may take it", _takers(live, case))]


def _takers(live: LiveState, case: Case) -> str:
    """Only those that may claim now."""
    if not live.is_running:
        return "none: everything is stopped"
    each = {
        Delivery.CELERY: f"{case.celery_workers} Celery workers on queue {case.priority}",
        Delivery.POLLER: f"{case.pollers} pollers",
    }
    return (
        ", ".join(words for delivery, words in each.items() if delivery in deliveries(live.mode)) or f"none in mode {live.mode}"
    )


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
    return Answer(
        rows, [Table(("when", "level", "category", "what", "who"), cells)] if rows else ["the audit log has no such entry"]
    )
