"""Which rollback procedure is advisable: from facts to one recommendation, with the finding that decided it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..model import Delivery, Mode
from .health import CELERY_COMMAND, MAKE_ANEW
from .modes import able, deliveries, dispatches, pollers_take_over

SLOW_BROKER_S = 0.5
UNCLAIMED_TOO_LONG_S = 60.0
MANY_FAILURES = 0.2
FEW = 10
SEVERAL = 3


class Way(StrEnum):
    """The possible recommendations, mildest first."""

    NOTHING = "nothing"
    FIX_IN_PLACE = "fix in place"
    PARTIAL = "partial"
    PLANNED = "planned"
    EMERGENCY = "emergency"


EXIT_CODES = {Way.NOTHING: 0, Way.FIX_IN_PLACE: 3, Way.PARTIAL: 10, Way.PLANNED: 11, Way.EMERGENCY: 12}


@dataclass(frozen=True, slots=True)
class Facts:
    """The measured facts. Times in seconds; `None` where the broker did not answer. Counts of the last hour end in `_lately`.

    `celery_done_s_ago`: since Celery's workers last completed a task; None: not within the hour. `lost_messages_lately`: messages that only
    the broker can have lost. `integrity_compromised`: stored vectors do not match the articles, so search may return wrong results.
    `broker_refuses`: why a broker that answers accepts no message.
    """

    mode: Mode
    live_row_missing: bool = False
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
    celery_done_s_ago: float | None = None
    celery_failed_lately: int = 0
    poller_done_lately: int = 0
    poller_failed_lately: int = 0
    rescues_lately: int = 0
    lost_messages_lately: int = 0
    provider_fault: str | None = None
    integrity_problems: tuple[str, ...] = ()
    integrity_compromised: bool = False
    broker_refuses: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: what was seen, and which recommendation it supports."""

    about: str
    evidence: str
    way: Way
    next: str = ""


def assess(facts: Facts) -> list[Finding]:
    """All findings, in the order of the checks."""
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
    """The finding with the strongest recommendation decides; among equals, the first."""
    ways = list(Way)
    return max(findings, key=lambda finding: ways.index(finding.way))


def _broker(facts: Facts) -> Finding:
    if facts.queues_of_another_kind:
        names = ", ".join(facts.queues_of_another_kind)
        way = Way.FIX_IN_PLACE if dispatches(facts.mode) else Way.NOTHING
        return Finding("broker", f"it answers, and has queues of another kind than ours: {names}", way, MAKE_ANEW)
    if facts.broker_answers and facts.broker_refuses and dispatches(facts.mode):
        covered = pollers_take_over(facts.mode) and facts.pollers
        return Finding(
            "broker",
            f"it answers, and takes no message: {facts.broker_refuses}",
            Way.FIX_IN_PLACE if covered else Way.EMERGENCY,
            "pollers carry on; give it memory, or rights, or its role back"
            if covered
            else "tasks are claimed from the table within seconds",
        )
    if facts.broker_answers:
        seconds = facts.broker_answers_in_s or 0.0
        slow = seconds > SLOW_BROKER_S and dispatches(facts.mode)
        return Finding(
            "broker",
            f"it answers in {seconds * 1000:.0f} ms",
            Way.PARTIAL if slow else Way.NOTHING,
            "doubtful: let pollers help" if slow else "",
        )
    if not dispatches(facts.mode):
        return Finding("broker", f"it does not answer, and mode {facts.mode} does not need it", Way.NOTHING)
    if pollers_take_over(facts.mode) and facts.pollers:
        return Finding(
            "broker",
            f"it does not answer; pollers carry on in {facts.mode} mode",
            Way.FIX_IN_PLACE,
            "repair or restart the broker",
        )
    return Finding("broker", "it does not answer", Way.EMERGENCY, "tasks are claimed from the table within seconds")


def _consumption(facts: Facts) -> Finding:
    seen = f"{facts.celery_workers} Celery workers and {facts.pollers} pollers live, {facts.messages_waiting:,} messages wait"
    allowed = deliveries(facts.mode)
    if not facts.open_tasks or not allowed or able(facts.mode, facts.celery_workers, facts.pollers):
        return Finding("consumers", seen, Way.NOTHING)
    if allowed == {Delivery.CELERY}:
        return Finding(
            "consumers",
            f"the queues have no consumers: {seen}",
            # Celery's workers may be running and waiting: the cause is known, so it is no reason to leave Celery.
            Way.FIX_IN_PLACE if facts.queues_of_another_kind else Way.EMERGENCY,
            "or start `celery -A embedq worker`, if it only was not started",
        )
    if allowed == {Delivery.POLLER}:
        return Finding("consumers", f"no poller lives: {seen}", Way.FIX_IN_PLACE, "start `embedq poller`")
    step = f"start `embedq poller`, or `{CELERY_COMMAND}`"
    return Finding("consumers", f"no worker lives: {seen}", Way.FIX_IN_PLACE, step)


def _delay(facts: Facts) -> Finding:
    if facts.oldest_unclaimed_s is None:
        return Finding("delay", "nothing waits in the broker", Way.NOTHING)
    seen = f"the oldest task with the broker waits for {facts.oldest_unclaimed_s:.0f} s"
    late = (
        dispatches(facts.mode)
        and facts.oldest_unclaimed_s > UNCLAIMED_TOO_LONG_S
        and (facts.celery_done_s_ago is None or facts.celery_done_s_ago > UNCLAIMED_TOO_LONG_S)
        and facts.celery_workers > 0
        and facts.is_running
        and facts.provider_fault is None
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
    seen = f"within the hour the broker lost messages {facts.lost_messages_lately} times, {facts.rescues_lately} times a worker died"
    if dispatches(facts.mode) and facts.lost_messages_lately >= SEVERAL:
        return Finding("losses", seen, Way.PARTIAL, "let pollers help, and compare")
    if facts.rescues_lately >= SEVERAL:
        return Finding("losses", seen, Way.FIX_IN_PLACE, "the log of the workers says why they die; no other delivery helps")
    return Finding("losses", seen, Way.NOTHING)


def _provider(facts: Facts) -> Finding:
    if facts.provider_fault is None:
        return Finding("provider", "no fault is known", Way.NOTHING)
    return Finding("provider", facts.provider_fault, Way.FIX_IN_PLACE, "no rollback helps: tasks wait until it works again")


def _stopped(facts: Facts) -> Finding:
    if facts.live_row_missing:
        return Finding(
            "queue", "the live row is gone, nothing can be claimed", Way.FIX_IN_PLACE, "`embedq start` makes it anew"
        )
    if facts.is_running:
        return Finding("queue", f"it runs in mode {facts.mode}, {facts.open_tasks:,} tasks are open", Way.NOTHING)
    return Finding("queue", "it is stopped (is_running = false)", Way.FIX_IN_PLACE, "`embedq start`")


def _integrity(facts: Facts) -> Finding:
    if not facts.integrity_problems:
        return Finding("data", "nothing is missing", Way.NOTHING)
    way = Way.EMERGENCY if facts.integrity_compromised and dispatches(facts.mode) else Way.FIX_IN_PLACE
    return Finding("data", "; ".join(facts.integrity_problems), way, "as each of them says; then `embedq verify`")
