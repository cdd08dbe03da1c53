"""`embedq status`, `health`, `wait`, `recent`, `stats`: state and progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from ..decide.facts import Finding, Level
from ..decide.health import is_well, without_database
from ..decide.sources import state_of
from ..errors import NotWell, StoreUnavailable
from ..operations.status import ACTS, Glance, glance, told_by
from ..settings import from_env
from ..store import Store
from ..store.recall import Recall
from .fences import opened
from .voice import FAILED, NOT_WELL, Answer, Table, command, drawn, lasting, words

LOOK_EVERY_S = 0.25


@command(name="status")
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.2), help="Seconds between two updates.")
def status(watch: bool, interval: float) -> Answer | None:
    """The mode with its reason, workers, open tasks by place, throughput, problems and the command that helps.

    Example:  embedq status --watch
    """
    with opened() as store:
        if not watch:
            return status_answer(store)
        try:
            _watch(lambda: status_answer(store, watched=True), interval)
        except KeyboardInterrupt:
            pass
    return None


def status_answer(store: Store, *, watched: bool = False) -> Answer:
    """`watched`: problems come first, because a terminal shows only its height."""
    seen = glance(store, from_env(os.environ))
    acts = store.audit.recent(ACTS)
    said = _said(seen, acts)
    return Answer(
        told_by(seen, acts),
        [said[0], *told(seen.found), *(part for part in said[1:] if part not in told(seen.found))] if watched else said,
    )


def _said(seen: Glance, acts: list[dict[str, Any]]) -> list[str | Table]:
    live = seen.live
    said: list[str | Table] = [f"mode {live.mode}{'' if live.is_running else ', STOPPED'} ({_ordered(seen.author)})"]
    if seen.stopped_by:
        said.append(f"stopped ({_ordered(seen.stopped_by)}); `embedq start --reason …` goes on")
    if live.maintenance:
        said.append(f"maintenance: {live.maintenance.get('reason')} ({live.maintenance.get('state')})")
    if live.throttle:
        said.append(f"throttle: {live.throttle.told()} (`embedq throttle off` ends it)")
    said += [
        _pace(seen),
        Table(("priority", "in the table", "with the broker", "in work", "messages", "delayed"), _depth_rows(seen)),
    ]
    said.append(_broker_line(seen))
    if seen.recall:
        said.append(_index_line(seen.recall))
    if seen.sources:
        said.append(f"sources: {', '.join(_source_state(row) for row in seen.sources)}")
    rows = [_worker_cells(worker) for worker in seen.workers]
    said.append(
        Table(("worker", "delivery", "holds", "mode seen", "queues", "steward"), rows) if rows else "no worker is alive"
    )
    said += told(seen.found)
    said.append(Table(("when", "what was done"), [(act["timestamp"], act["message"][:120]) for act in acts]))
    return said


def _source_state(source: dict[str, Any]) -> str:
    return f"{source['name']} {state_of(source)}"


def _worker_cells(worker: dict[str, Any]) -> tuple[object, ...]:
    steward, queues = worker["steward_since"] is not None, " ".join(worker["queues"])
    return (worker["name"], worker["delivery"], worker["held"], worker["mode_seen"], queues, steward)


def _ordered(act: dict[str, Any]) -> str:
    since = act["at"].astimezone().strftime("%Y-%m-%d %H:%M") if act["at"] else "-"
    return f"since {since} by {act['who'] or '-'}: {act['reason']}"


def _pace(seen: Glance) -> str:
    about = "about " if seen.about else ""
    if not seen.open:
        return f"nothing waits; {seen.rate:.1f} tasks/s in the last minute"
    ages = [time.time() - seen.oldest.timestamp()] if seen.oldest else []
    cannot = "no estimate while the problems below last" if seen.rate else "nothing was completed in the last minute"
    eta = f"done in about {lasting(seen.eta_s)}" if seen.eta_s else cannot
    return f"{about}{seen.open:,} open, the oldest for {lasting(*ages) if ages else '-'}; {seen.rate:.1f}/s, {eta}"


def _depth_rows(seen: Glance) -> list[tuple[object, ...]]:
    waiting = (seen.peek.waiting if seen.peek else None) or {}
    places = {(row["priority"], row["place"]): row for row in seen.tasks}
    rows: list[tuple[object, ...]] = []
    for priority in ("urgent", "high", "normal", "low"):
        cells = [_number(places.get((priority, place))) for place in ("table", "broker", "worker")]
        delayed = (places.get((priority, "table")) or {"delayed": 0})["delayed"]
        rows.append((priority, *cells, waiting.get(priority), delayed))
    return rows


def _number(row: dict[str, Any] | None) -> str:
    if row is None:
        return "0"
    return f"about {row['tasks']:,}" if row["about"] else f"{row['tasks']:,}"


def _broker_line(seen: Glance) -> str:
    if seen.peek is None or not seen.peek.reachable:
        return f"broker: unreachable ({seen.peek.why if seen.peek else 'not asked'})"
    held = seen.peek.unacknowledged
    return "broker: answers" + (f"; {held} messages delivered and not yet acknowledged" if held else "")


def _index_line(seen: Recall) -> str:
    if seen.recall is None:
        return f"index ({seen.kind}): recall is not sampled yet; `embedq index check` measures it"
    return f"index ({seen.kind}): recall@10 {seen.recall:.3f} in {seen.samples} samples of the last day"


def told(found: list[Finding]) -> list[str | Table]:
    if not found:
        return ["nothing is wrong"]
    return [line for finding in found for line in (f"{finding.level}: {finding.what}", f"    next: {finding.next}")]


def _watch(look: Callable[[], Answer], interval_s: float) -> None:
    """On a terminal the answer is redrawn in place, elsewhere answers follow each other. While the database is away, that is said."""
    from rich.console import Console, Group
    from rich.live import Live

    if not sys.stdout.isatty():
        plain = Console(width=160, highlight=False, markup=False, emoji=False)
        while True:
            plain.print(Group(*_looked(look)))
            time.sleep(interval_s)
    with Live(console=Console(highlight=False, markup=False, emoji=False), screen=True, auto_refresh=False) as live:
        while True:
            live.update(Group(*_looked(look)), refresh=True)
            time.sleep(interval_s)


def _looked(look: Callable[[], Answer]) -> list[Any]:
    try:
        return [drawn(part) if isinstance(part, Table) else words(part) for part in look().said]
    except StoreUnavailable as away:
        return [words(f"{time.strftime('%H:%M:%S')} {away}")]


@command(name="health")
def health() -> Answer:
    """Report problems, each with the command that helps. Exit code 0 without a problem, 1 with one.

    Example:  embedq health --json
    """
    try:
        with opened() as store:
            found = glance(store, from_env(os.environ)).found
    except StoreUnavailable as away:
        found = without_database(str(away), away.hint)
    well = is_well(found)
    return Answer({"well": well, "findings": [finding._asdict() for finding in found]}, told(found), 0 if well else FAILED)


@command(name="wait")
@click.option("--timeout", default=3600.0, show_default=True, help="Seconds.")
def wait(timeout: float) -> Answer:
    """Wait until no task is open, and tell how they ended. Exit code 3 when the time is up, or when some of them failed.

    Example:  embedq wait --timeout 600
    """
    started = time.monotonic()
    with opened() as store:
        since = store.overview.now()
        _wait_for_all(store, timeout)
        ended = store.overview.ended_since(since)
        failed_before = store.overview.failed() - ended["failed"]
    data = ended | {"done": sum(ended.values()), "failed_before": failed_before, "seconds": time.monotonic() - started}
    told = ", ".join(f"{number:,} {status}" for status, number in ended.items() if number) or "none ended meanwhile"
    said = [f"nothing is open: {told}"]
    if failed_before:
        said.append(f"{failed_before:,} tasks had failed before: `embedq failed --details`")
    if ended["failed"]:
        said.append("next: embedq failed --details")
    return Answer(data, [*said], NOT_WELL if ended["failed"] else 0)


def _wait_for_all(store: Store, timeout: float) -> None:
    from .trying import bar

    started = time.monotonic()
    total = left = store.overview.open()
    with bar("embedding", total) as show:
        while left:
            if time.monotonic() - started > timeout:
                raise _still_open(store, left, timeout)
            looked_at = time.monotonic()
            left = store.overview.open()
            show(max(0, total - left))
            # Queries of a long queue take longer: at most a tenth of the time is spent on them.
            time.sleep(max(LOOK_EVERY_S, 9 * (time.monotonic() - looked_at)) if left else 0)


def _still_open(store: Store, left: int, timeout: float) -> NotWell:
    found = [each for each in glance(store, from_env(os.environ)).found if each.level is Level.PROBLEM]
    why = f": {found[0].what}" if found else ""
    return NotWell(
        f"{left} tasks are still open after {timeout:g} s{why}",
        hint=found[0].next if found else "`embedq status` shows what they wait for",
    )


@command(name="recent")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
def recent(limit: int) -> Answer:
    """The tasks that changed last.

    Example:  embedq recent --limit 50
    """
    with opened() as store:
        rows = store.overview.recent(limit)
    columns = ("id", "article_id", "tenant_id", "status", "priority", "delivery", "attempts", "changed_at", "error_message")
    return Answer(rows, [Table(columns, [[row[key] for key in columns] for row in rows])])


@command(name="stats")
@click.option("--hours", default=24.0, show_default=True, type=click.FloatRange(0.01), help="How far back.")
def stats(hours: float) -> Answer:
    """Sizes, throughput and failures; the sizes of large tables as PostgreSQL estimates them.

    Example:  embedq stats --hours 1
    """
    with opened() as store:
        view = store.overview
        seconds = hours * 3600
        data: dict[str, Any] = {
            "hours": hours,
            "about_rows": view.about_rows(),
            "articles": view.articles(),
            "open": view.depth(),
            "ended": view.throughput(seconds),
            "tokens": view.tokens(seconds),
            "failed": view.failed_groups(by_message=False),
        }
    ended = [
        (r["delivery"], r["status"], r["tasks"], r["attempts"], lasting(r["median_s"]), lasting(r["p95_s"]))
        for r in data["ended"]
    ]
    said: list[str | Table] = [
        Table(("table", "rows, about"), [(name, rows if rows >= 0 else "-") for name, rows in data["about_rows"].items()]),
        "articles: " + _by_status(data["articles"]),
        Table(
            ("priority", "place", "open", "oldest"),
            [(r["priority"], r["place"], _number(r), r["oldest"]) for r in data["open"]],
        ),
        Table(("delivery", "ended", "tasks", "attempts", "median", "95 %"), ended, f"Ended in the last {hours:g} h"),
        f"{data['tokens']:,} tokens for what was completed (at most {view.cap:,} tasks are counted)",
    ]
    if data["failed"]:
        said.append(Table(("error", "failed tasks"), [(r["error_class"], r["tasks"]) for r in data["failed"]]))
    return Answer(data, said)


def _by_status(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "too many to count at a glance (`embedq verify` does)"
    return ", ".join(f"{number:,} {status}" for status, number in counts.items()) or "none"
