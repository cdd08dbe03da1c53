"""The story of a task: claim, load, plan, embed, settle. The same for every delivery.

Three short transactions and none around the provider (SPEC G8): the claim commits before the request is sent, the
settle begins after the answer came. What a settle finds no longer its own, it leaves alone.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from . import tracing
from .asking import Answers, Asker
from .buying import Plan, buy, planned, stored, usage
from .decide.prices import number_for
from .decide.retry import GiveUp, RetryAt, RetryPolicy, after_failure, provider_pause_s
from .errors import ConfigError, EmbedqError, Fault, InputRefused, NotFound, ProviderBusy, StoreUnavailable
from .model import Claimed, Delivery, Model, Outcome, Priority, TaskStatus, Usage
from .throttling import STORE_GIVES_WAY_S, Gate

if TYPE_CHECKING:
    from .providers import Provider
    from .store import Settled, Store
    from .store.budget import Budget
    from .worker import Worker

log = logging.getLogger(__name__)

SUSPECT_AFTER_LOSSES = 2
PROBE_MARGIN_S = 5.0
SETTLE_PATIENCE_S = 60.0
# What a message names waits so long for the provider's budget before it goes back to the table.
BUDGET_PATIENCE_S = 15.0
LONGEST_NAP_S = 2.0


@dataclass(frozen=True, slots=True)
class TheseTasks:
    """What a message asks for."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class NextDue:
    """What a poller asks for: whatever is due and not with the broker, these priorities in this order."""

    priorities: Sequence[Priority] = tuple(Priority)
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NextUrgent:
    """What a Celery worker's own thread for the urgent asks for: also what is with the broker."""


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
        self, store: Store, worker: Worker, providers: Callable[[Model], Provider], policy: RetryPolicy, *,
        batch_size: int = 100, timeout_s: float = 300.0, dice: Callable[[], float] = random.random,
        budgets: Callable[[Model], Budget | None] = lambda model: None, prices: str = "",
    ) -> None:  # fmt: skip
        self.store = store
        self.worker = worker
        self.policy = policy
        self.batch_size = batch_size
        self.timeout_s = timeout_s
        self.dice = dice
        self._providers = providers
        self._budgets, self._prices = budgets, prices
        self._askers: dict[int, Asker] = {}
        self.gate = Gate(store.throttles.live, worker.stopping)

    def run(self, request: TheseTasks | NextDue | NextUrgent) -> Report:
        """Claim what is asked for, embed it, settle it."""
        with self.gate.entered() as throttle:
            began_ns = time.time_ns()
            report = self._embed_and_settle(self.claim(request), began_ns)
        if throttle and isinstance(request, TheseTasks):
            # Their message is about to be acknowledged: the table has again what found no room.
            self.store.throttles.put_off(request.ids, throttle)
        return report

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
        deadline = time.monotonic() + self.timeout_s * 0.9
        with tracing.batch(claimed, began_ns) as batch:
            for together in _apart(claimed):
                with tracing.span("embedq.embed", tasks=len(together)):
                    outcomes = self.embed(together, report, deadline)
                self.gate.give_way(STORE_GIVES_WAY_S)
                with tracing.span("embedq.settle", tasks=len(outcomes)):
                    states = self.settle(outcomes, report)
                batch.ended(outcomes, states)
        return report

    def claim(self, request: TheseTasks | NextDue | NextUrgent) -> list[Claimed]:
        """What may be claimed now. While it is only the provider's budget that forbids it, that is waited for, with nothing in hand."""
        give_up = time.monotonic() + (BUDGET_PATIENCE_S if isinstance(request, TheseTasks) else LONGEST_NAP_S)
        while not (claimed := self._claim(request)) and self._limited and time.monotonic() < give_up:
            nap_s = self.store.models.spent_s(request.ids if isinstance(request, TheseTasks) else None)
            if not nap_s or self.worker.stopping.is_set():
                break
            # Not all at the same moment: the first to come take the places, and the others see that and claim nothing.
            self.worker.sleep(self.worker.rings, min(LONGEST_NAP_S, nap_s) + self.dice())
        if not claimed and self._limited and isinstance(request, TheseTasks):
            # The message is about to be acknowledged: the table has again what waits for the budget.
            self.store.tasks.free(request.ids)
        return claimed

    @property
    def _limited(self) -> bool:
        return any(asker.budget is not None for asker in self._askers.values())

    def _claim(self, request: TheseTasks | NextDue | NextUrgent) -> list[Claimed]:
        delivery, tasks, worker = Delivery(self.worker.delivery), self.store.tasks, self.worker.id
        if self.worker.stopping.is_set():
            return []
        match request:
            case NextDue(priorities, grace_s):
                claimed = tasks.claim_due(worker, delivery, priorities, self.batch_size, grace_s)
            case NextUrgent():
                claimed = tasks.claim_urgent(worker, delivery, self.batch_size)
            case TheseTasks(ids):
                claimed = tasks.claim_named(worker, delivery, ids, max(len(ids), self.batch_size))
        return claimed

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
        plans = list(planned(tasks, asker.provider.limits.max_input_tokens))
        urgency = min((task.priority for task in tasks), key=list(Priority).index)
        stop = lambda: self.worker.stopping.is_set() or time.monotonic() > deadline  # noqa: E731
        answers = buy(self.store.vectors, asker, plans, stop, urgency)
        self.worker.counters["requests"] += answers.requests
        self.worker.counters["reused"] += sum(not had.share for had in answers.had.values())
        return self._outcomes(asker, plans, answers, report)

    def _gate(self, asker: Asker, report: Report) -> str | None:
        """After a fault one process asks the canary; the others' tasks wait for its answer. None: go ahead."""
        provider = asker.provider.model.provider
        state = self.store.models.state(provider)
        if state is None or not state["faults"]:
            return None
        if state["pause_s"] > 0:
            report.wait_s = state["pause_s"]
            return str(state["pause_reason"])
        if not self.store.models.may_probe(provider, self.probe_s):
            report.wait_s = 0.2 + 0.8 * self.dice()
            return f"waiting for the probe of {provider}: {state['pause_reason']}"
        sick = asker.canary()
        if sick is None:
            self._recovered(provider)
            return None
        report.wait_s = self._pause(provider, sick)
        report.busy = sick
        return str(sick)

    @property
    def probe_s(self) -> float:
        """As long as one request may take (Settings.provider_timeout_s), and a little: a prober that died holds the others up no longer."""
        return min(60.0, self.timeout_s / 10) + PROBE_MARGIN_S

    def _recovered(self, provider: str) -> None:
        if self.store.models.well(provider):
            self.store.audit.write("provider", f"provider {provider} is well again", provider=provider)

    def _pause(self, provider: str, busy: ProviderBusy) -> float:
        state = self.store.models.state(provider) or {"faults": 0, "pause_s": 0.0}
        # Calls that were under way when the pause began, and fail in it, are the same fault.
        faults = max(1, state["faults"] if state["pause_s"] > 0 else state["faults"] + 1)
        pause_s = provider_pause_s(faults, busy.retry_after_s, self.dice())
        paused = self.store.models.pause(provider, pause_s, f"{busy} (next: {busy.hint})")
        self.worker.counters["provider_faults"] += 1
        log.warning("provider %s is paused for %.1f s: %s", provider, pause_s, busy)
        if paused and paused["faults"] == 1:
            self.store.audit.write(
                "provider", f"provider {provider} is paused: {busy}", level="warning", provider=provider, hint=busy.hint
            )
        return float(paused["pause_s"]) if paused else pause_s

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
        """The tasks' new states, without those whose outcome came too late."""
        if not outcomes:
            return {}
        settled = self._settle_when_the_store_answers(outcomes)
        report.settled.update(settled.states.values())
        report.late += settled.late
        self.worker.counters.update(settled.states.values())
        self.worker.counters["late"] += settled.late
        return settled.states

    def _settle_when_the_store_answers(self, outcomes: Sequence[Outcome]) -> Settled:
        """What was paid for is not thrown away because PostgreSQL restarts: for a while it is tried again, lease renewed first."""
        give_up = time.monotonic() + SETTLE_PATIENCE_S
        while True:
            try:
                return self.store.tasks.settle(self.worker.id, self.worker.name, outcomes)
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
        """Have the active model's provider at hand before the first task comes: importing an SDK takes as long as ten requests."""
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
            self._askers[model_id] = Asker(tracing.traced(self._providers(model)), self.batch_size, budget=self._budgets(model))
        return self._askers[model_id]

    def _provider_of(self, model_id: int) -> str:
        model = self.store.models.by_id().get(model_id)
        return model.provider if model else "unknown"


def _apart(claimed: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    """Tasks whose worker died under them more than once stand alone, after the others are settled: one of them may be why."""
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
    """Back to the table, and nobody is charged."""
    return Outcome(task, TaskStatus.PENDING, wait_s=wait_s, message=why)
