"""The state of the whole system, for `status`, `health` and monitors. Bounded reads, short time-outs, no slow imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..addresses import shown
from ..broker.peek import Peek, Peeking
from ..decide.facts import Facts, Finding, Level
from ..decide.health import HALTS, findings
from ..decide.modes import LiveState, deliveries, pollers_take_over
from ..decide.progress import YOUNG_S, Progress, at_what, call_bound_s, stalled_s
from ..decide.sources import state_of
from ..endpoints import addresses
from ..engine.worker import ANSWERED, AT, BROKER, FAILING, UNPUBLISHED, WHY
from ..model import Delivery, Priority
from ..settings import Settings
from ..steward.maintenance_window import shown as of_maintenance
from ..store import Store, recall
from ..store.database import Row
from ..store.recall import Recall

MINUTE_S, HOUR_S = 60.0, 3600.0
# Entries of the audit log shown with the status.
ACTS = 5
SETTLING_IN_S = 30.0
HELD_S = 5.0


@dataclass(slots=True)
class Glance:
    """`tasks`: open tasks by priority and place. `author`: who, at and reason of the last mode change; `stopped_by`: the same of a stop.
    `rate`: tasks completed per second in the last minute. `eta_s`: None if no task was completed or some cannot be."""

    live: LiveState
    workers: list[Row]
    tasks: list[Row]
    peek: Peek | None
    facts: Facts
    rate: float = 0.0
    oldest: Any = None
    about: bool = False
    author: Row = field(default_factory=dict)
    stopped_by: Row | None = None
    found: list[Finding] = field(default_factory=list)
    recall: Recall | None = None
    sources: list[Row] = field(default_factory=list)

    @property
    def open(self) -> int:
        return sum(row["tasks"] for row in self.tasks)

    @property
    def eta_s(self) -> float | None:
        halted = any(found.rule in HALTS and found.level is Level.PROBLEM for found in self.found)
        return self.open / self.rate if self.rate and self.open and not halted and not self._pauses_hold_some else None

    @property
    def _pauses_hold_some(self) -> bool:
        paused = self.facts.paused_priorities
        return bool(self.facts.paused_tenants) or any(row["tasks"] for row in self.tasks if row["priority"] in paused)


def glance(store: Store, settings: Settings) -> Glance:
    """Read everything that `status` and `health` report. The broker is queried while PostgreSQL is read."""
    peeking = Peeking(addresses(settings).broker_url)
    live = store.status.live()
    registered = store.workers.all()
    workers = [row for row in registered if row["alive"]]
    tasks = store.overview.depth()
    lately = store.overview.settled(MINUTE_S)
    facts = _facts(store, settings, live, registered, tasks, peeking.answer())
    return Glance(
        live,
        workers,
        tasks,
        peeking.answer(),
        facts,
        lately["completed"] / MINUTE_S,
        min((row["oldest"] for row in tasks if row["oldest"]), default=None),
        any(row["about"] for row in tasks),
        store.status.author(live),
        store.status.stopped_by(live),
        findings(facts),
        recall.lately(store.database),
        store.sources.all(),
    )


def told_by(seen: Glance, acts: Sequence[Row]) -> dict[str, Any]:
    """The status as a JSON object, the same for the command line, HTTP and MCP. `acts`: the last entries of the audit log."""
    live = seen.live
    return {
        "mode": live.mode,
        "is_running": live.is_running,
        "reason": seen.author["reason"],
        "by": seen.author["who"],
        "since": seen.author["at"],
        "stopped_by": seen.stopped_by,
        "submissions_accepted": live.submissions_accepted,
        "maintenance": of_maintenance(live.maintenance),
        "paused_priorities": seen.facts.paused_priorities,
        "paused_tenants": seen.facts.paused_tenants,
        "throttle": live.throttle.data(),
        "open": seen.open,
        "about": seen.about,
        "rate_per_s": seen.rate,
        "eta_s": seen.eta_s,
        "oldest": seen.oldest,
        "tasks": seen.tasks,
        "broker": asdict(seen.peek) if seen.peek else None,
        "workers": seen.workers,
        "index": seen.recall._asdict() if seen.recall else None,
        "sources": {row["name"]: state_of(row) for row in seen.sources},
        "findings": [finding._asdict() for finding in seen.found],
        "acts": acts,
    }


def _facts(
    store: Store, settings: Settings, live: LiveState, registered: Sequence[Row], tasks: Sequence[Row], peek: Peek
) -> Facts:
    lately, moves = store.overview.settled(HOUR_S), store.moves.seen()
    workers = [worker for worker in registered if worker["alive"]]
    celery = [worker for worker in workers if worker["delivery"] == Delivery.CELERY]
    pollers = [worker for worker in workers if worker["delivery"] == Delivery.POLLER]
    return Facts(
        mode=live.mode,
        live_row_missing=live.missing,
        is_running=live.is_running,
        submissions_accepted=live.submissions_accepted,
        dispatch_held=live.dispatch_held,
        paused_priorities=live.paused_priorities,
        paused_tenants=live.paused_tenants,
        broker=peek.reachable,
        broker_why=peek.why,
        broker_states=peek.states,
        of_another_kind=peek.of_another_kind,
        broker_refuses=peek.refuses,
        unpublished=unpublished(workers),
        celery_workers=len(celery),
        pollers=len(pollers),
        steward=has_steward(workers),
        consumed=consumed(celery),
        polled=consumed(pollers),
        waiting=_waiting(tasks),
        oldest_due_s=store.overview.oldest_due_s(live.paused_priorities, live.paused_tenants),
        stuck=store.overview.stuck(settings.worker_timeout_s),
        failing=failing(workers),
        troubles=store.providers.troubled(),
        swapped=store.canaries.swapped(),
        failed=lately["failed"],
        settled=lately["settled"],
        failed_ever=store.overview.failed(),
        progress=_progress(store, settings, live, workers, peek, moves),
        read_only=moves["read_only"],
        clock_behind_s=moves["ahead_s"] or 0.0,
        losing=moves["losing"],
        died_young=died_young(registered),
        sources=store.sources.behind(),
    )


def _progress(store: Store, settings: Settings, live: LiveState, workers: Sequence[Row], peek: Peek, moves: Row) -> Progress:
    """Whether due tasks make progress; if not, the known causes."""
    fallback_s = settings.fallback_after_s if pollers_take_over(live.mode) else 0.0
    call_s = call_bound_s(settings.provider_timeout_s, settings.worker_interval_s, fallback_s)
    batch_s = settings.worker_timeout_s + call_s
    seen = Progress(
        due_s=store.moves.due_s(moves, live.paused_priorities, live.paused_tenants),
        able_s=_able_s(live, workers, moves["changed_s"]),
        settled_s=moves["settled_s"],
        answered_s=min(
            (_said(each, ANSWERED) + each["seen_s_ago"] for each in workers if ANSWERED in _counters(each)), default=None
        ),
        call_s=batch_s if live.throttle else call_s,
        batch_s=batch_s,
    )
    return seen if stalled_s(seen) is None else replace(seen, known=_in_the_way(store, settings, workers, peek))


def _able_s(live: LiveState, workers: Sequence[Row], changed_s: float | None) -> float | None:
    """For how long (seconds) workers that may claim have been alive under the current mode and pauses."""
    now, able = datetime.now(UTC), deliveries(live.mode) if live.is_running else frozenset()
    if live.dispatch_held:  # intended: free tasks are not published, so Celery workers cannot claim them
        able -= {Delivery.CELERY}
    alive_s = [(now - each["started_at"]).total_seconds() for each in workers if each["delivery"] in able]
    return min(max(alive_s), max(alive_s) if changed_s is None else changed_s) if alive_s else None


def _in_the_way(store: Store, settings: Settings, workers: Sequence[Row], peek: Peek) -> list[str]:
    held = [f"held by {session}" for session in store.moves.in_the_way(HELD_S)]
    waits = [line for each in workers for line in at_what(each["name"], _under_way(each))]
    ours = shown(addresses(settings).broker_url)
    elsewhere = [
        f"{each['name']} uses the broker {there}, and this command looks at {ours}"
        for each in workers
        if (there := _counters(each).get(BROKER, ours)) != ours
    ]
    untaken = [
        f"{number} messages wait in the broker's queue {queue}" for queue, number in (peek.waiting or {}).items() if number
    ]
    return [*held, *waits, *elsewhere, *untaken]


def _counters(worker: Row) -> dict[str, Any]:
    return worker["counters"] or {}


def _said(worker: Row, key: str) -> float:
    return float(_counters(worker)[key])


def _under_way(worker: Row) -> dict[str, float]:
    return {key.removeprefix(AT): float(long_s) for key, long_s in sorted(_counters(worker).items()) if key.startswith(AT)}


def unpublished(workers: Sequence[Row]) -> list[str]:
    """Why stewards among these living workers cannot publish, from their heartbeats."""
    return [f"{each['name']}: {why}" for each in workers if (why := _counters(each).get(UNPUBLISHED))]


def died_young(workers: Sequence[Row]) -> int:
    """Registered workers that died soon after their start without unregistering; the steward deletes them after a minute."""
    lives = [
        (each["seen_at"] - each["started_at"]).total_seconds() for each in workers if not each["alive"] and not each["ending"]
    ]
    return sum(lived_s < YOUNG_S for lived_s in lives)


def has_steward(workers: Sequence[Row]) -> bool:
    """Whether one of them is the steward; true also while all have just started."""
    now = datetime.now(UTC)
    settled_in = [worker for worker in workers if (now - worker["started_at"]).total_seconds() > SETTLING_IN_S]
    return not settled_in or any(worker["steward_since"] for worker in workers)


def failing(workers: Sequence[Row]) -> list[str]:
    """Repeatedly failing threads of these living workers, from their heartbeats."""
    return [
        f"{worker['name']}: {(name := key.removeprefix(FAILING))} ({number} times in a row){_why(worker, name)}"
        for worker in workers
        for key, number in sorted(_counters(worker).items())
        if key.startswith(FAILING)
    ]


def _why(worker: Row, name: str) -> str:
    why = _counters(worker).get(f"{WHY}{name}")
    return f": {why}" if why else ""


def consumed(workers: Sequence[Row]) -> frozenset[str]:
    """The queues that these living workers serve; a worker that named none serves all."""
    return frozenset(queue for worker in workers for queue in (worker["queues"] or Priority))


def _waiting(tasks: Sequence[Row]) -> dict[str, int]:
    waiting: dict[str, int] = {}
    for row in tasks:
        if row["place"] != "worker":
            waiting[row["priority"]] = waiting.get(row["priority"], 0) + row["tasks"]
    return waiting
