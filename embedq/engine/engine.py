"""The way of a task: claim, load, plan, embed, settle. The same for both deliveries.

Three short transactions and none around the provider (G8): the claim commits before the request is sent, the
settle begins after the answer came. A settle changes only tasks whose lease and claim number are still its own.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import psycopg

from ..decide.circuit_breaker import Circuit, circuit, look_again_s, next_pause_s, probe_s
from ..decide.prices import number_for
from ..decide.retry import GiveUp, RetryAt, RetryPolicy, after_failure
from ..errors import ConfigError, EmbedqError, Fault, InputRefused, NotFound, ProviderBusy, StoreUnavailable
from ..model import Claimed, Delivery, Model, Outcome, Priority, TaskStatus, Usage
from ..store.settling import Settled
from ..telemetry import tracing
from .chunking import USUAL, ChunkSize
from .concurrency import STORE_GIVES_WAY_S, Gate
from .requests import Answers, Asker
from .vectors import Plan, buy, planned, stored, usage

if TYPE_CHECKING:
    from ..decide.throttle import Throttle
    from ..providers import Provider
    from ..store import Store
    from ..store.rate_limit import Budget
    from .worker import Worker

log = logging.getLogger(__name__)

SUSPECT_AFTER_LOSSES = 2
SETTLE_PATIENCE_S = 60.0
# What a message names waits so long for the provider's budget before it goes back to the table.
BUDGET_PATIENCE_S = 15.0
LONGEST_NAP_S = 2.0
# Outcomes, each with its vectors, that a process keeps while a writer's transaction holds their rows.
MOST_HELD_UP = 1000


@dataclass(frozen=True, slots=True)
class TheseTasks:
    """The tasks that a message names, by id."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class NextDue:
    """What a poller claims: due tasks that are not with the broker, by priority in this order."""

    priorities: Sequence[Priority] = tuple(Priority)
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NextUrgent:
    """What a Celery worker's thread for urgent tasks claims: also tasks that are with the broker."""


@dataclass(slots=True)
class Report:
    """How one run went. `wait_s` is set when the provider was at fault: how long its tasks wait."""

    claimed: int = 0
    settled: Counter[str] = field(default_factory=Counter)
    late: int = 0
    busy: ProviderBusy | None = None
    wait_s: float = 0.0


class Engine:
    """`providers` makes the provider of a model, once per process."""

    def __init__(
        self,
        store: Store,
        worker: Worker,
        providers: Callable[[Model], Provider],
        policy: RetryPolicy,
        *,
        batch_size: int = 100,
        timeout_s: float = 300.0,
        request_timeout_s: float | None = None,
        dice: Callable[[], float] = random.random,
        budgets: Callable[[Model], Budget | None] = lambda model: None,
        prices: str = "",
        sizes: Callable[[Model], ChunkSize] = lambda model: USUAL,
    ) -> None:
        self.store = store
        self.worker = worker
        self.policy = policy
        self.batch_size = batch_size
        self.timeout_s = timeout_s
        self.request_timeout_s = request_timeout_s or min(60.0, timeout_s / 10)
        self.dice = dice
        self._providers = providers
        self._budgets, self._prices, self._sizes = budgets, prices, sizes
        self._askers: dict[int, Asker] = {}
        self._lock, self._unsettled = threading.Lock(), list[Outcome]()
        self.gate = Gate(store.throttles.live, worker.stopping)

    def run(self, request: TheseTasks | NextDue | NextUrgent) -> Report:
        """Claim, embed and settle."""
        with self.gate.entered() as throttle:
            began_ns = time.time_ns()
            report = self._embed_and_settle(self.claim(request), began_ns)
        if isinstance(request, TheseTasks):
            self._give_back(request.ids, report, throttle)
        return report

    def _give_back(self, ids: Sequence[int], report: Report, throttle: Throttle) -> None:
        """Celery will acknowledge the message: release the tasks that this worker did not claim. What a mode, a
        stop or a pause forbids stays as it is; the steward frees it when its message is missed."""
        if not report.claimed and (self._limited or self.worker.stopping.is_set()):
            self.store.tasks.free(ids)
        elif throttle:
            self.store.throttles.put_off(ids, throttle)

    def run_overdue(self, fallback_s: float, priorities: Sequence[Priority] = tuple(Priority)) -> Report:
        """In hybrid mode, for a poller: what the broker has not delivered for `fallback_s` seconds."""
        if self.worker.stopping.is_set():
            return Report()
        with self.gate.entered():
            began_ns = time.time_ns()
            claimed = self.store.tasks.claim_overdue(self.worker.id, self.batch_size, fallback_s, priorities)
            return self._embed_and_settle(claimed, began_ns)

    def _embed_and_settle(self, claimed: Sequence[Claimed], began_ns: int) -> Report:
        report = Report(claimed=len(claimed))
        self.worker.counters["claimed"] += len(claimed)
        # The last request begins early enough to end while the tasks are still held.
        deadline = time.monotonic() + self.timeout_s - max(self.timeout_s / 10, self.request_timeout_s)
        with tracing.batch(claimed, began_ns) as batch:
            for together in _apart(claimed):
                with tracing.span("embedq.embed", tasks=len(together)), self.worker.under_way.at("embed"):
                    outcomes = self.embed(together, report, deadline)
                self.gate.give_way(STORE_GIVES_WAY_S)
                with tracing.span("embedq.settle", tasks=len(outcomes)), self.worker.under_way.at("settle"):
                    states = self.settle(outcomes, report)
                batch.ended(outcomes, states)
        return report

    def claim(self, request: TheseTasks | NextDue | NextUrgent) -> list[Claimed]:
        """Claim what may be claimed now. While only the rate limit forbids it, wait for that without holding a task."""
        give_up = time.monotonic() + (BUDGET_PATIENCE_S if isinstance(request, TheseTasks) else LONGEST_NAP_S)
        while not (claimed := self._claim(request)) and self._limited and time.monotonic() < give_up:
            nap_s = self.store.providers.spent_s(request.ids if isinstance(request, TheseTasks) else None)
            if not nap_s or self.worker.stopping.is_set():
                break
            # Jitter, so that waiting threads do not claim together: the first take the free places, and the others claim nothing.
            self.worker.sleep(self.worker.rings, min(LONGEST_NAP_S, nap_s) + self.dice())
        return claimed

    @property
    def _limited(self) -> bool:
        return any(asker.budget is not None for asker in self._askers.values())

    def _claim(self, request: TheseTasks | NextDue | NextUrgent) -> list[Claimed]:
        delivery, tasks, worker = Delivery(self.worker.delivery), self.store.tasks, self.worker.id
        if self.worker.stopping.is_set():
            return []
        with self.worker.under_way.at("claim"):
            match request:
                case NextDue(priorities, grace_s):
                    return tasks.claim_due(worker, delivery, priorities, self.batch_size, grace_s)
                case NextUrgent():
                    return tasks.claim_urgent(worker, delivery, self.batch_size)
                case TheseTasks(ids):
                    return tasks.claim_named(worker, delivery, ids, max(len(ids), self.batch_size))

    def embed(self, claimed: Sequence[Claimed], report: Report, deadline: float) -> list[Outcome]:
        """One outcome for each task, by `deadline` (monotonic seconds). No transaction is open: the provider may take a minute."""
        outcomes = [outcome for task in claimed if (outcome := without_asking(task)) is not None]
        settled = {outcome.task.id for outcome in outcomes}
        for model_id, group in groupby(sorted(claimed, key=lambda task: task.model_id), key=lambda task: task.model_id):
            asked = [task for task in group if task.id not in settled]
            if asked:
                outcomes += self._embed_model(model_id, asked, deadline, report)
        return outcomes

    def _embed_model(self, model_id: int, tasks: Sequence[Claimed], deadline: float, report: Report) -> list[Outcome]:
        try:
            asker = self.asker(model_id)
        except NotFound as dropped:
            return [Outcome(task, TaskStatus.CANCELLED, message=str(dropped)) for task in tasks]
        except ConfigError as wrong:
            busy = ProviderBusy(str(wrong), hint=wrong.hint, retry_after_s=60.0)
            return self._paused(tasks, self._provider_of(model_id), busy, report)
        held_back = self._gate(asker, report)
        if held_back is not None:
            return [waiting(task, report.wait_s, held_back) for task in tasks]
        plans = list(planned(tasks, asker.max_input_tokens, self._sizes(asker.provider.model)))
        urgency = min((task.priority for task in tasks), key=list(Priority).index)
        stop = lambda: self.worker.stopping.is_set() or time.monotonic() > deadline  # noqa: E731
        bought, answers = buy(self.store.vectors, asker, plans, stop, urgency)
        self.worker.counters["requests"] += answers.requests
        self.worker.counters["reused"] += sum(not had.share for had in answers.had.values())
        return self._outcomes(asker, bought, answers, report)

    def _gate(self, asker: Asker, report: Report) -> str | None:
        """After a fault one process probes the provider; tasks of the others wait for the result. None: go ahead."""
        provider = asker.provider.model.provider
        state = self.store.providers.state(provider)
        if state is None or circuit(state) is Circuit.CLOSED:
            return None
        if circuit(state) is Circuit.OPEN:
            report.wait_s = state.left_s
            return state.why
        if not self.store.providers.may_probe(provider, self.probe_s):
            report.wait_s = look_again_s(self.dice())
            return f"waiting for the probe of {provider}: {state.why}"
        sick = asker.canary()
        if sick is None:
            self._recovered(provider)
            return None
        report.wait_s = self._pause(provider, sick)
        report.busy = sick
        return str(sick)

    @property
    def probe_s(self) -> float:
        """Seconds after which another process may probe, because the prober may have died."""
        return probe_s(self.request_timeout_s)

    def _recovered(self, provider: str) -> None:
        if self.store.providers.well(provider):
            self.store.audit.write("provider", f"provider {provider} is well again", provider=provider)

    def _pause(self, provider: str, busy: ProviderBusy) -> float:
        pause_s = next_pause_s(self.store.providers.state(provider), busy.retry_after_s, self.dice())
        paused = self.store.providers.pause(provider, pause_s, f"{busy} (next: {busy.hint})")
        log.warning("provider %s is paused for %.1f s: %s", provider, pause_s, busy)
        if paused is None:
            return pause_s
        self.worker.counters["provider_pauses"] += paused.began
        if paused.began and paused.faults == 1:
            self.store.audit.write(
                "provider", f"provider {provider} is paused: {busy}", level="error", provider=provider, hint=busy.hint
            )
        return paused.pause_s

    def _paused(self, tasks: Sequence[Claimed], provider: str, busy: ProviderBusy, report: Report) -> list[Outcome]:
        report.busy = busy
        report.wait_s = self._pause(provider, busy)
        return [waiting(task, report.wait_s, str(busy)) for task in tasks]

    def _outcomes(self, asker: Asker, plans: Sequence[Plan], answers: Answers, report: Report) -> list[Outcome]:
        if answers.busy is not None:
            self._paused([], asker.provider.model.provider, answers.busy, report)
        left, price = set(answers.left), number_for(self._prices, asker.provider.model)
        return [self._outcome(plan, answers, left, usage(plan, answers, price), report) for plan in plans]

    def _outcome(self, plan: Plan, answers: Answers, left: AbstractSet[int], bill: Usage, report: Report) -> Outcome:
        if answers.refused or left:
            refused = next((answers.refused[p] for p in plan.positions if p in answers.refused), None)
            if refused is not None:
                return self._charged(plan.task, refused)._replace(usage=bill)
            if not left.isdisjoint(plan.positions):
                return _left(plan.task, answers, report.wait_s)._replace(usage=bill)
        return Outcome(plan.task, TaskStatus.COMPLETED, charged=True, stored=stored(plan, answers), usage=bill)

    def _charged(self, task: Claimed, fault: Fault) -> Outcome:
        kind, message = type(fault).__name__, str(fault)
        if isinstance(fault, InputRefused):
            return Outcome(task, TaskStatus.FAILED, charged=True, error_class=kind, message=message)
        now = datetime.now(UTC)
        match after_failure(task.attempts + 1, message, self.policy, now, self.dice()):
            case GiveUp(reason):
                return Outcome(task, TaskStatus.FAILED, charged=True, error_class=kind, message=reason)
            case RetryAt(at, reason):
                return Outcome(
                    task, TaskStatus.PENDING, charged=True, wait_s=(at - now).total_seconds(), error_class=kind, message=reason
                )

    def settle(self, outcomes: Sequence[Outcome], report: Report) -> Mapping[int, str]:
        """Write the outcomes; returns the new states. Late outcomes are dropped; those whose rows a writer holds are settled later."""
        if not outcomes:
            return {}
        settled = self._settle_when_the_store_answers(outcomes)
        report.settled.update(settled.states.values())
        report.late += settled.late
        self._count(settled)
        self._record_failures(outcomes, settled.states)
        return settled.states

    def _record_failures(self, outcomes: Sequence[Outcome], states: Mapping[int, str]) -> None:
        """One line of the level `error` for what failed together: monitors read the audit log."""
        failed = [each for each in outcomes if states.get(each.task.id) == TaskStatus.FAILED]
        if not failed:
            return
        kinds = Counter(each.error_class or "unknown" for each in failed)
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        with suppress(EmbedqError, psycopg.Error):  # they are settled; the next look finds them all the same
            self.store.audit.write(
                "task",
                f"{len(failed)} tasks failed: {told}",
                level="error",
                tasks=[each.task.id for each in failed][:100],
                articles=[each.task.article_id for each in failed][:100],
                first=failed[0].message,
                worker=self.worker.name,
            )

    def settle_held_up(self) -> None:
        """Outcomes whose rows a writer's transaction held when they were settled: tried again with each heartbeat, until they are settled or late."""
        with self._lock:
            held_up, self._unsettled = self._unsettled, []
        if held_up:
            try:
                self._count(self.store.tasks.settle(self.worker.id, self.worker.name, held_up, patience_s=0.0))
            except StoreUnavailable:
                self._keep(held_up)
                raise

    def _count(self, settled: Settled) -> None:
        self._keep(settled.locked)
        self.worker.counters.update(settled.states.values())
        self.worker.counters["late"] += settled.late

    def _keep(self, locked: Sequence[Outcome]) -> None:
        """Bounded: a task whose outcome is dropped here is rescued when its lease ends, and embedded again."""
        with self._lock:
            self._unsettled = [*self._unsettled, *locked][-MOST_HELD_UP:]

    def _settle_when_the_store_answers(self, outcomes: Sequence[Outcome]) -> Settled:
        """Vectors that were paid for survive a restart of PostgreSQL: the settle is tried again for a while, after renewing the lease."""
        give_up, settled = time.monotonic() + SETTLE_PATIENCE_S, Settled()
        while True:
            try:
                return self.store.tasks.settle(self.worker.id, self.worker.name, outcomes, settled)
            except StoreUnavailable as away:
                if time.monotonic() > give_up:
                    raise
                log.warning("%d outcomes wait to be settled: %s", len(outcomes), away)
            self._renew_lease()

    def _renew_lease(self) -> None:
        time.sleep(0.2 + 0.3 * self.dice())
        try:
            self.worker.beat()
        except StoreUnavailable as away:
            log.debug("still away: %s", away)

    def prepare(self) -> None:
        """Make the active model's provider before the first task comes: importing an SDK takes as long as ten requests."""
        try:
            if (active := self.store.models.active()) is not None:
                self.asker(active.id)
        except EmbedqError as later:
            log.warning("%s; next: %s", later, later.hint)

    def asker(self, model_id: int) -> Asker:
        if model_id not in self._askers:
            model = self.store.models.by_id().get(model_id)
            if model is None:
                raise NotFound(f"model {model_id} is not registered", hint="`embedq model list` shows the models")
            self._askers[model_id] = Asker(
                tracing.traced(self._providers(model)),
                self.batch_size,
                budget=self._budgets(model),
                timeout_s=self.request_timeout_s,
            )
        return self._askers[model_id]

    def _provider_of(self, model_id: int) -> str:
        model = self.store.models.by_id().get(model_id)
        return model.provider if model else "unknown"


def _apart(claimed: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    """Tasks whose worker died while it held them more than once are embedded alone, after the others: one of them may be the cause."""
    usual = [task for task in claimed if task.lost_leases < SUSPECT_AFTER_LOSSES]
    if usual:
        yield usual
    yield from ([task] for task in claimed if task.lost_leases >= SUSPECT_AFTER_LOSSES)


def without_asking(task: Claimed) -> Outcome | None:
    """The outcome of a task that needs no provider, or None."""
    if task.text is None:
        return Outcome(task, TaskStatus.CANCELLED, message="the article is gone")
    if not task.text:
        return Outcome(task, TaskStatus.SKIPPED, error_class="EmptyText", message="the article has no text")
    if task.stored_hash == task.text_hash and not task.forced:
        return Outcome(task, TaskStatus.COMPLETED)
    return None


def _left(task: Claimed, answers: Answers, wait_s: float) -> Outcome:
    """What was not asked for: the provider is at fault, or its budget is spent, or this worker stops."""
    if answers.busy is not None:
        return waiting(task, wait_s, str(answers.busy))
    if answers.later is not None:
        return waiting(
            task, answers.later.wait_s, "waits for the provider's budget (EMBEDDING_REQUESTS_PER_MINUTE, _TOKENS_PER_MINUTE)"
        )
    return waiting(task, wait_s, "handed back by a worker that stopped")


def waiting(task: Claimed, wait_s: float, why: str) -> Outcome:
    """Back to the table; no attempt is charged."""
    return Outcome(task, TaskStatus.PENDING, wait_s=wait_s, message=why)
