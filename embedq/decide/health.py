"""The rules of `embedq health`: from facts to problems and the commands that help. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..model import Delivery, Priority
from .facts import Facts, Finding, Level
from .modes import deliveries, dispatches, usual
from .progress import CLOCK_S, LOOP, stalled_s
from .sources import what_is_wrong

OLDEST_S = 300.0
NO_PROGRESS = "no-progress"
FAILURES_THAT_COUNT = 10
FAILED_SHARE = 0.1
CELERY_COMMAND = "celery -A embedq worker -Q urgent,high,normal,low"
MAKE_ANEW = "`embedq broker drain --yes --reason …` takes its messages into the table and makes it anew"
AFTER_FAILURES = (
    "`embedq failed --details` names each CLASS; when its cause is gone: `embedq retry --error CLASS --canary`; "
    "when the texts are to blame: edit them, or `embedq dead-letter discard --error CLASS --yes --reason …`"
)


def findings(facts: Facts) -> list[Finding]:
    """The findings: problems first, by importance; that due tasks make no progress comes before all others."""
    found = [each._replace(rule=name) for name, rules in RULES.items() for rule in rules for each in rule(facts)]
    found.sort(key=lambda finding: finding.level is not Level.PROBLEM)
    return [*_nothing_moves(facts, found), *found]


def _nothing_moves(facts: Facts, found: Sequence[Finding]) -> Iterator[Finding]:
    still_s = stalled_s(facts.progress)
    if still_s is None:
        return
    cause = next((each for each in found if each.level is Level.PROBLEM), None)
    known = "; ".join(facts.progress.known) or ("the next finding tells why" if cause else "no cause is known")
    yield Finding(
        Level.PROBLEM,
        f"tasks are due, workers are alive, and nothing has ended for {still_s:.0f} s: {known}",
        cause.next if cause else "`embedq explain TASK` (`embedq recent` names tasks) and the log of the workers say more",
        NO_PROGRESS,
    )


def is_well(found: Sequence[Finding]) -> bool:
    """Whether there is no problem among the findings; notes are allowed."""
    return not any(finding.level is Level.PROBLEM for finding in found)


def without_database(why: str, hint: str) -> list[Finding]:
    """The only finding if PostgreSQL does not answer."""
    return [Finding(Level.PROBLEM, why, hint, "database-away")]


def stopped(facts: Facts) -> Iterator[Finding]:
    if facts.live_row_missing:
        what = f"the live row (embedding_worker_status) is gone: nothing can be claimed, {facts.backlog} tasks wait"
        yield Finding(
            Level.PROBLEM, what, "embedq start --reason … (it makes the row anew); then `embedq mode` if it was not celery"
        )
    elif not facts.is_running:
        level = Level.PROBLEM if facts.backlog else Level.NOTE
        yield Finding(
            level, f"everything is stopped (is_running is false), {facts.backlog} tasks wait", "embedq start --reason …"
        )


def switched_off(facts: Facts) -> Iterator[Finding]:
    if not usual(facts.mode).search_enabled:
        yield Finding(Level.NOTE, "the mode is off: search is disabled, articles go stale", "embedq mode celery --reason …")
    if not facts.submissions_accepted:
        yield Finding(Level.NOTE, "submissions are paused: articles are saved without tasks", "embedq maintenance status")
    if facts.dispatch_held and dispatches(facts.mode):
        yield Finding(Level.NOTE, "dispatch is held: nothing new goes to the broker", "embedq rollback assess")


def broker_away(facts: Facts) -> Iterator[Finding]:
    if facts.broker is not False or not dispatches(facts.mode):
        return
    level = Level.NOTE if facts.covered or not facts.has_work else Level.PROBLEM
    words = "pollers do its work" if facts.covered else "tasks wait in the table" if facts.has_work else "nothing waits for it"
    yield Finding(
        level, f"the broker does not answer ({facts.broker_why}); {words}", 'embedq mode database --reason "broker down"'
    )


def broker_in_a_bad_state(facts: Facts) -> Iterator[Finding]:
    """The broker answers and loses messages, or will refuse them. (That it refuses them now: `broker_refuses`.)"""
    if not dispatches(facts.mode):
        return
    for state in facts.broker_states:
        if state.refuses and facts.broker_refuses:
            continue
        stops = state.refuses and facts.has_work and not facts.covered
        yield Finding(Level.PROBLEM if stops else Level.NOTE, f"the broker {state.what}", state.next)


def broker_refuses(facts: Facts) -> Iterator[Finding]:
    """The broker answers and nothing can be published: it is full, a replica, or denies writing."""
    refused = [why for why in (facts.broker_refuses, *facts.unpublished) if why]
    if refused and facts.broker is not False and dispatches(facts.mode):
        level = Level.NOTE if facts.covered or not facts.has_work else Level.PROBLEM
        known = next((state for state in facts.broker_states if state.refuses), None)
        why = "; ".join([*([f"it {known.what}"] if known else []), *refused])
        step = '`embedq mode database --reason "the broker takes no message"` until its memory, its role (no replica) or its user\'s rights are right'
        yield Finding(
            level,
            f"the broker takes no message ({why}); tasks wait in the table",
            f"{known.next}; or {step}" if known else step,
        )


def queues_of_another_kind(facts: Facts) -> Iterator[Finding]:
    """Queues declared differently. Listed before its consequences: no task reaches the broker, and no Celery worker can start."""
    if not facts.of_another_kind:
        return
    covered = facts.covered or not (dispatches(facts.mode) and facts.has_work)
    yield Finding(
        Level.NOTE if covered else Level.PROBLEM,
        f"queues of another kind than ours in RabbitMQ: {', '.join(facts.of_another_kind)}; nothing can be published there, and "
        "Celery workers cannot begin until they are made anew",
        MAKE_ANEW,
    )


def nobody_works(facts: Facts) -> Iterator[Finding]:
    able_to = deliveries(facts.mode)
    if facts.workers or not able_to or not facts.has_work:
        return
    what, command = ("Celery worker", CELERY_COMMAND) if Delivery.CELERY in able_to else ("poller", "embedq poller")
    yield Finding(Level.PROBLEM, f"no {what} is alive, and the mode is {facts.mode}: nothing is embedded", command)


def nobody_consumes(facts: Facts) -> Iterator[Finding]:
    if not dispatches(facts.mode) or not facts.celery_workers:
        return
    for queue in (priority for priority in Priority if priority not in facts.consumed):
        waiting = facts.waiting.get(queue, 0)
        level = Level.PROBLEM if waiting and not facts.covered else Level.NOTE
        yield Finding(level, f"no Celery worker consumes the queue {queue}; {waiting} tasks wait for it", CELERY_COMMAND)


def nobody_polls(facts: Facts) -> Iterator[Finding]:
    if deliveries(facts.mode) != {Delivery.POLLER} or not facts.pollers:
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


def database_read_only(facts: Facts) -> Iterator[Finding]:
    if facts.read_only:
        what = "PostgreSQL takes no writes from this role (transaction_read_only is on): nothing can be claimed or settled"
        yield Finding(
            Level.PROBLEM, what, "name the primary in DATABASE_URL, not a standby; or set default_transaction_read_only to off"
        )


def clock_is_behind(facts: Facts) -> Iterator[Finding]:
    if facts.clock_behind_s > CLOCK_S:
        what = f"PostgreSQL's clock stands {facts.clock_behind_s:.0f} s before what it has written: it was set back; tasks are due when it has caught up"
        yield Finding(
            Level.PROBLEM,
            what,
            "set the clock of the database server right (timedatectl, chrony); until then `embedq explain TASK` tells when a task is due",
        )


def crash_loop(facts: Facts) -> Iterator[Finding]:
    if facts.died_young >= LOOP:
        what = f"{facts.died_young} workers died within a minute of their start: a crash loop"
        yield Finding(
            Level.PROBLEM,
            what,
            "the log of the worker and of what starts it (journalctl, docker logs) say why; `embedq recent` shows what it held",
        )


def workers_are_lost(facts: Facts) -> Iterator[Finding]:
    if facts.losing:
        what = f"{facts.losing} tasks in work have lost their worker more than once: their texts may be why"
        yield Finding(
            Level.PROBLEM,
            what,
            "`embedq recent` names them; `embedq explain TASK` tells what happened to each; the log of the worker tells why it died",
        )


def stuck(facts: Facts) -> Iterator[Finding]:
    if facts.stuck:
        yield Finding(Level.PROBLEM, f"{facts.stuck} tasks are held by a dead worker, or for too long", "embedq reset-stuck")


def threads_fail(facts: Facts) -> Iterator[Finding]:
    if facts.failing:
        what = f"in living workers something fails again and again: {'; '.join(facts.failing)}"
        steps = dict.fromkeys(step for each in facts.failing if (step := each.partition("; next: ")[2]))
        log = "the worker's log says why, line by line"
        yield Finding(Level.PROBLEM, what, "; ".join([*steps, log]) if steps else f"{log}; what it names is to be put right")


def provider_in_trouble(facts: Facts) -> Iterator[Finding]:
    for trouble in facts.troubles:
        pause = f"paused for {trouble.left_s:.0f} s more" if trouble.left_s else "about to be asked again"
        what = f"provider {trouble.name} has not answered correctly for {trouble.for_s:.0f} s ({pause}): {trouble.why}"
        step = "`embedq provider check` shows what it answers; tasks wait, none of them is charged, and they continue when it is back"
        yield Finding(Level.PROBLEM, what, step)


def other_vectors(facts: Facts) -> Iterator[Finding]:
    for swapped in facts.swapped:
        yield Finding(Level.PROBLEM, swapped.told(), swapped.next())


def waits_too_long(facts: Facts) -> Iterator[Finding]:
    if facts.oldest_due_s is not None and facts.oldest_due_s > OLDEST_S and facts.is_running and deliveries(facts.mode):
        what = f"a task that is due has waited for {facts.oldest_due_s / 60:.0f} min"
        yield Finding(Level.PROBLEM, what, "`embedq recent`, then `embedq explain TASK`; more workers if all goes well")


def failures(facts: Facts) -> Iterator[Finding]:
    if facts.failed >= FAILURES_THAT_COUNT and facts.failed > FAILED_SHARE * facts.settled:
        what = f"{facts.failed} of the {facts.settled} tasks that ended in the last hour failed"
        yield Finding(Level.PROBLEM, what, AFTER_FAILURES)
    elif facts.failed_ever:
        yield Finding(Level.NOTE, f"{facts.failed_ever} failed tasks wait for a review", AFTER_FAILURES)


def sources_behind(facts: Facts) -> Iterator[Finding]:
    for source in facts.sources:
        yield Finding(Level.PROBLEM, *what_is_wrong(source))


def paused(facts: Facts) -> Iterator[Finding]:
    if facts.paused_priorities:
        yield Finding(Level.NOTE, f"paused priorities: {', '.join(facts.paused_priorities)}", "embedq resume")
    if facts.paused_tenants:
        yield Finding(Level.NOTE, f"paused tenants: {', '.join(facts.paused_tenants)}", "embedq resume")


# The rules by the name that alerts and metrics use, by importance.
RULES: Mapping[str, Sequence[Callable[[Facts], Iterator[Finding]]]] = {
    "database-read-only": (database_read_only,),
    "clock": (clock_is_behind,),
    "stopped": (stopped,),
    "switched-off": (switched_off,),
    "broker-away": (broker_away, broker_refuses, broker_in_a_bad_state),
    "queue-not-consumed": (queues_of_another_kind, nobody_works, nobody_consumes, nobody_polls),
    "steward-missing": (no_steward,),
    "threads-fail": (threads_fail,),
    "provider-paused": (provider_in_trouble,),
    "model-changed": (other_vectors,),
    "crash-loop": (crash_loop, workers_are_lost),
    "tasks-stuck": (stuck,),
    "oldest-too-old": (waits_too_long,),
    "failure-rate": (failures,),
    "source-behind": (sources_behind,),
    "paused": (paused,),
}
NOTES = ("switched-off", "paused")
# While one of these is a problem, the past rate gives no estimate of the remaining time.
HALTS = (
    NO_PROGRESS,
    "database-read-only",
    "stopped",
    "broker-away",
    "queue-not-consumed",
    "steward-missing",
    "provider-paused",
    "model-changed",
)
