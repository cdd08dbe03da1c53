"""Which way back? (R4). Facts in, one recommendation out, with the finding that decided it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..model import Mode
from .health import MAKE_ANEW

SLOW_BROKER_S = 0.5
UNCLAIMED_TOO_LONG_S = 60.0
MANY_FAILURES = 0.2
FEW = 10


class Way(StrEnum):
    """What to do, the mildest first."""

    NOTHING = "nothing"
    FIX_IN_PLACE = "fix in place"
    PARTIAL = "partial"
    PLANNED = "planned"
    EMERGENCY = "emergency"


EXIT_CODES = {Way.NOTHING: 0, Way.FIX_IN_PLACE: 3, Way.PARTIAL: 10, Way.PLANNED: 11, Way.EMERGENCY: 12}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen. Times in seconds; `None` where the broker did not answer. Counts of the last hour end in `_lately`."""

    mode: Mode
    is_running: bool = True
    broker_answers: bool = True
    broker_answers_in_s: float | None = 0.0
    queues_of_another_kind: tuple[str, ...] = ()
    messages_waiting: int = 0
    celery_workers: int = 1
    pollers: int = 1
    open_tasks: int = 0
    oldest_unclaimed_s: float | None = None
    celery_done_lately: int = 0
    celery_failed_lately: int = 0
    poller_done_lately: int = 0
    poller_failed_lately: int = 0
    rescues_lately: int = 0
    lost_messages_lately: int = 0
    provider_fault: str | None = None
    integrity_problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was seen, and what it argues for."""

    about: str
    evidence: str
    way: Way
    next: str = ""


def assess(facts: Facts) -> list[Finding]:
    """Every finding, in the order in which they are looked at."""
    return [
        _broker(facts),
        _consumption(facts),
        _delay(facts),
        _errors(facts),
        _losses(facts),
        _provider(facts),
        _stopped(facts),
        _integrity(facts),
    ]


def recommended(findings: Sequence[Finding]) -> Finding:
    """The finding that asks for the most decides; of equals, the first."""
    ways = list(Way)
    return max(findings, key=lambda finding: ways.index(finding.way))


def _uses_broker(facts: Facts) -> bool:
    return facts.mode in (Mode.CELERY, Mode.HYBRID, Mode.SYNC)


def _broker(facts: Facts) -> Finding:
    if facts.queues_of_another_kind:
        names = ", ".join(facts.queues_of_another_kind)
        way = Way.FIX_IN_PLACE if _uses_broker(facts) else Way.NOTHING
        return Finding("broker", f"it answers, and has queues of another kind than ours: {names}", way, MAKE_ANEW)
    if facts.broker_answers:
        seconds = facts.broker_answers_in_s or 0.0
        slow = seconds > SLOW_BROKER_S and _uses_broker(facts)
        return Finding(
            "broker",
            f"it answers in {seconds * 1000:.0f} ms",
            Way.PARTIAL if slow else Way.NOTHING,
            "doubtful: let pollers help" if slow else "",
        )
    if not _uses_broker(facts):
        return Finding("broker", f"it does not answer, and mode {facts.mode} does not need it", Way.NOTHING)
    if facts.mode is Mode.HYBRID and facts.pollers:
        return Finding(
            "broker", "it does not answer; pollers carry on in hybrid mode", Way.FIX_IN_PLACE, "repair or restart the broker"
        )
    return Finding("broker", "it does not answer", Way.EMERGENCY, "work goes on from the table within seconds")


def _consumption(facts: Facts) -> Finding:
    seen = f"{facts.celery_workers} Celery workers and {facts.pollers} pollers live, {facts.messages_waiting:,} messages wait"
    if facts.mode is Mode.CELERY and not facts.celery_workers and facts.open_tasks:
        return Finding(
            "consumers",
            f"nobody consumes the queues: {seen}",
            # Its workers may well run and wait: with the cause known, there is no need to leave Celery.
            Way.FIX_IN_PLACE if facts.queues_of_another_kind else Way.EMERGENCY,
            "or start `celery -A embedq worker`, if it only was not started",
        )
    if facts.mode is Mode.DATABASE and not facts.pollers and facts.open_tasks:
        return Finding("consumers", f"no poller lives: {seen}", Way.FIX_IN_PLACE, "start `embedq poller`")
    return Finding("consumers", seen, Way.NOTHING)


def _delay(facts: Facts) -> Finding:
    if facts.oldest_unclaimed_s is None:
        return Finding("delay", "nothing waits in the broker", Way.NOTHING)
    seen = f"the oldest task with the broker waits for {facts.oldest_unclaimed_s:.0f} s"
    late = (
        _uses_broker(facts)
        and facts.oldest_unclaimed_s > UNCLAIMED_TOO_LONG_S
        and not facts.celery_done_lately
        and facts.celery_workers > 0
        and not facts.queues_of_another_kind
    )
    return Finding("delay", seen, Way.PLANNED if late else Way.NOTHING, "workers live and complete nothing" if late else "")


def _errors(facts: Facts) -> Finding:
    celery, poller = (
        _rate(facts.celery_failed_lately, facts.celery_done_lately),
        _rate(facts.poller_failed_lately, facts.poller_done_lately),
    )
    seen = (
        f"failed within the hour: by Celery {facts.celery_failed_lately} of {facts.celery_failed_lately + facts.celery_done_lately},"
        f" by pollers {facts.poller_failed_lately} of {facts.poller_failed_lately + facts.poller_done_lately}"
    )
    if celery > MANY_FAILURES and celery > 2 * poller and facts.poller_done_lately:
        return Finding("errors", seen, Way.PLANNED, "Celery fails where pollers do not")
    if max(celery, poller) > MANY_FAILURES:
        return Finding("errors", seen, Way.FIX_IN_PLACE, "`embedq failed --details` groups them by error")
    return Finding("errors", seen, Way.NOTHING)


def _rate(failed: int, done: int) -> float:
    return failed / (failed + done) if failed + done >= FEW else 0.0


def _losses(facts: Facts) -> Finding:
    seen = (
        f"within the hour {facts.lost_messages_lately} times messages were missing, {facts.rescues_lately} times a worker died"
    )
    doubtful = _uses_broker(facts) and facts.lost_messages_lately + facts.rescues_lately >= 3
    return Finding(
        "losses", seen, Way.PARTIAL if doubtful else Way.NOTHING, "let pollers help, and compare" if doubtful else ""
    )


def _provider(facts: Facts) -> Finding:
    if facts.provider_fault is None:
        return Finding("provider", "no fault is known", Way.NOTHING)
    return Finding("provider", facts.provider_fault, Way.FIX_IN_PLACE, "no rollback helps: tasks wait until it is well")


def _stopped(facts: Facts) -> Finding:
    if facts.is_running:
        return Finding("queue", f"it runs in mode {facts.mode}, {facts.open_tasks:,} tasks are open", Way.NOTHING)
    return Finding("queue", "it is stopped (is_running = false)", Way.FIX_IN_PLACE, "`embedq start`")


def _integrity(facts: Facts) -> Finding:
    if not facts.integrity_problems:
        return Finding("data", "nothing is missing", Way.NOTHING)
    return Finding("data", "; ".join(facts.integrity_problems), Way.FIX_IN_PLACE, "as each of them says; then `embedq verify`")
