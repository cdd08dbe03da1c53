"""What is wrong, and which command helps: rules over facts that somebody else has gathered. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ..model import Mode, Priority

OLDEST_S = 300.0
FAILURES_THAT_COUNT = 10
FAILED_SHARE = 0.1
PUBLISHING = (Mode.CELERY, Mode.HYBRID)
CELERY_COMMAND = "celery -A embedq worker -Q urgent,high,normal,low"
MAKE_ANEW = "`embedq broker drain --yes --reason …` takes its messages into the table and makes it anew"
AFTER_FAILURES = (
    "`embedq failed --details` names each CLASS; when its cause is gone: `embedq retry --error CLASS --canary`; "
    "when the texts are to blame: edit them, or `embedq dead-letter discard --error CLASS --yes --reason …`"
)


class Level(StrEnum):
    """A problem makes `embedq health` fail; a note is worth knowing."""

    PROBLEM = "problem"
    NOTE = "note"


class Finding(NamedTuple):
    """`next` is a command, or what to do."""

    level: Level
    what: str
    next: str


@dataclass(frozen=True, slots=True)
class ProviderTrouble:
    """A provider with faults: how long it has been so, and how long its pause still lasts (seconds)."""

    name: str
    why: str
    for_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen. `broker` is None when it was not looked at; `broker_why` says why it did not answer; `of_another_kind` names
    queues in it that are not declared as ours are. `waiting`: pending tasks by priority. `consumed`, `polled`: queues that a living
    Celery worker or poller serves. `oldest_due_s`: how long the longest waiting task has been due, None when none has been for long.
    `failed` and `settled` are of the last hour, `failed_ever` of all time."""

    mode: Mode
    is_running: bool = True
    submissions_accepted: bool = True
    dispatch_held: bool = False
    paused_priorities: Sequence[str] = ()
    paused_tenants: Sequence[str] = ()
    broker: bool | None = None
    broker_why: str = ""
    of_another_kind: Sequence[str] = ()
    celery_workers: int = 0
    pollers: int = 0
    steward: bool = True
    consumed: frozenset[str] = frozenset(Priority)
    polled: frozenset[str] = frozenset(Priority)
    waiting: Mapping[str, int] = field(default_factory=dict)
    oldest_due_s: float | None = None
    stuck: int = 0
    troubles: Sequence[ProviderTrouble] = ()
    failed: int = 0
    settled: int = 0
    failed_ever: int = 0

    @property
    def backlog(self) -> int:
        return sum(self.waiting.values())

    @property
    def workers(self) -> int:
        """Workers that may claim in this mode."""
        match self.mode:
            case Mode.CELERY:
                return self.celery_workers
            case Mode.DATABASE:
                return self.pollers
            case Mode.OFF:
                return 0
        return self.celery_workers + self.pollers


def findings(facts: Facts) -> list[Finding]:
    """Problems first, in the order in which they are worth looking at."""
    found = [finding for rule in RULES for finding in rule(facts)]
    return sorted(found, key=lambda finding: finding.level is not Level.PROBLEM)


def is_well(found: Sequence[Finding]) -> bool:
    return not any(finding.level is Level.PROBLEM for finding in found)


def without_database(why: str, hint: str) -> list[Finding]:
    """All that can be said when PostgreSQL does not answer."""
    return [Finding(Level.PROBLEM, why, hint)]


def stopped(facts: Facts) -> Iterator[Finding]:
    if not facts.is_running:
        level = Level.PROBLEM if facts.backlog else Level.NOTE
        yield Finding(
            level, f"everything is stopped (is_running is false), {facts.backlog} tasks wait", "embedq start --reason …"
        )


def switched_off(facts: Facts) -> Iterator[Finding]:
    if facts.mode is Mode.OFF:
        yield Finding(Level.NOTE, "the mode is off: search is disabled, articles go stale", "embedq mode celery --reason …")
    if not facts.submissions_accepted:
        yield Finding(Level.NOTE, "submissions are paused: articles are saved without tasks", "embedq maintenance status")
    if facts.dispatch_held and facts.mode in PUBLISHING:
        yield Finding(Level.NOTE, "dispatch is held: nothing new goes to the broker", "embedq rollback assess")


def broker_away(facts: Facts) -> Iterator[Finding]:
    if facts.broker is not False or facts.mode not in PUBLISHING:
        return
    level = Level.NOTE if facts.mode is Mode.HYBRID and facts.pollers else Level.PROBLEM
    words = "pollers do its work" if level is Level.NOTE else "tasks wait in the table"
    yield Finding(
        level, f"the broker does not answer ({facts.broker_why}); {words}", 'embedq mode database --reason "broker down"'
    )


def queues_of_another_kind(facts: Facts) -> Iterator[Finding]:
    """Before whatever it is the cause of: no task reaches the broker and no Celery worker can begin while they are there."""
    if not facts.of_another_kind:
        return
    covered = facts.mode not in PUBLISHING or (facts.mode is Mode.HYBRID and facts.pollers)
    yield Finding(
        Level.NOTE if covered else Level.PROBLEM,
        f"queues of another kind than ours in RabbitMQ: {', '.join(facts.of_another_kind)}; nothing can be published there, and "
        "Celery workers cannot begin until they are made anew",
        MAKE_ANEW,
    )


def nobody_works(facts: Facts) -> Iterator[Finding]:
    if facts.workers or facts.mode is Mode.OFF or (facts.mode is Mode.SYNC and not facts.backlog):
        return
    what, command = ("poller", "embedq poller") if facts.mode is Mode.DATABASE else ("Celery worker", CELERY_COMMAND)
    yield Finding(Level.PROBLEM, f"no {what} is alive, and the mode is {facts.mode}: nothing is embedded", command)


def nobody_consumes(facts: Facts) -> Iterator[Finding]:
    if facts.mode not in PUBLISHING or not facts.celery_workers:
        return
    for queue in (priority for priority in Priority if priority not in facts.consumed):
        waiting = facts.waiting.get(queue, 0)
        covered = facts.mode is Mode.HYBRID and facts.pollers
        level = Level.PROBLEM if waiting and not covered else Level.NOTE
        yield Finding(level, f"no Celery worker consumes the queue {queue}; {waiting} tasks wait for it", CELERY_COMMAND)


def nobody_polls(facts: Facts) -> Iterator[Finding]:
    if facts.mode is not Mode.DATABASE or not facts.pollers:
        return
    for queue in (priority for priority in Priority if priority not in facts.polled):
        waiting = facts.waiting.get(queue, 0)
        level = Level.PROBLEM if waiting else Level.NOTE
        yield Finding(level, f"no poller takes the priority {queue}; {waiting} tasks of it wait", "embedq poller")


def no_steward(facts: Facts) -> Iterator[Finding]:
    if facts.celery_workers + facts.pollers and not facts.steward:
        yield Finding(
            Level.PROBLEM,
            "workers are alive and none of them keeps house: nothing is dispatched, rescued or reconciled",
            "restart one worker: the first that is free takes over within seconds",
        )


def stuck(facts: Facts) -> Iterator[Finding]:
    if facts.stuck:
        yield Finding(Level.PROBLEM, f"{facts.stuck} tasks are held by a dead worker, or for too long", "embedq reset-stuck")


def provider_in_trouble(facts: Facts) -> Iterator[Finding]:
    for trouble in facts.troubles:
        pause = f"paused for {trouble.left_s:.0f} s more" if trouble.left_s else "about to be asked again"
        what = f"provider {trouble.name} has not answered well for {trouble.for_s:.0f} s ({pause}): {trouble.why}"
        step = "`embedq provider check` shows what it answers; tasks wait, none of them is charged, and go on when it is back"
        yield Finding(Level.PROBLEM, what, step)


def waits_too_long(facts: Facts) -> Iterator[Finding]:
    if facts.oldest_due_s is not None and facts.oldest_due_s > OLDEST_S and facts.is_running and facts.mode is not Mode.OFF:
        what = f"a task that is due has waited for {facts.oldest_due_s / 60:.0f} min"
        yield Finding(Level.PROBLEM, what, "`embedq recent`, then `embedq explain TASK`; more workers if all goes well")


def failures(facts: Facts) -> Iterator[Finding]:
    if facts.failed >= FAILURES_THAT_COUNT and facts.failed > FAILED_SHARE * facts.settled:
        what = f"{facts.failed} of the {facts.settled} tasks that ended in the last hour failed"
        yield Finding(Level.PROBLEM, what, AFTER_FAILURES)
    elif facts.failed_ever:
        yield Finding(Level.NOTE, f"{facts.failed_ever} failed tasks wait for somebody to look", AFTER_FAILURES)


def paused(facts: Facts) -> Iterator[Finding]:
    if facts.paused_priorities:
        yield Finding(Level.NOTE, f"paused priorities: {', '.join(facts.paused_priorities)}", "embedq resume")
    if facts.paused_tenants:
        yield Finding(Level.NOTE, f"paused tenants: {', '.join(facts.paused_tenants)}", "embedq resume")


RULES: Sequence[Callable[[Facts], Iterator[Finding]]] = (
    stopped, switched_off, broker_away, queues_of_another_kind, nobody_works, nobody_consumes, nobody_polls,
    no_steward, provider_in_trouble, stuck, waits_too_long, failures, paused,
)  # fmt: skip

COMPARED = ("wanted", "stored", "pending", "processing", "failed", "stale", "missing")


def compare(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[list[tuple[str, int, int]], list[str]]:
    """Two verifications: (fact, before, after) for each fact that is compared, and what must not have happened between them."""
    rows = [(name, _count(before, name), _count(after, name)) for name in COMPARED]
    changed = {name: now - then for name, then, now in rows}
    problems = []
    if changed["wanted"] < 0:
        problems.append(
            f"{-changed['wanted']} articles fewer than before: were they deleted on purpose? `embedq audit` shows by whom"
        )
    if changed["stored"] < min(0, changed["wanted"]):
        problems.append(f"{-changed['stored']} embeddings fewer than before: `embedq reconcile` promises them anew")
    if changed["missing"] > 0:
        problems.append(f"{changed['missing']} more articles are stale without a promise: `embedq reconcile`")
    return rows, problems


def _count(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0
