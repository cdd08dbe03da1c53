"""Claim, load, plan, embed and settle tasks; the same for both deliveries.

Three short transactions and none around the provider (G8): the claim commits before the request is sent, the
settle begins after the answer came. A settle changes only tasks whose lease and claim number are still its own.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import TYPE_CHECKING

from ..decide.prices import number_for
from ..decide.retry import RetryPolicy
from ..errors import ConfigError, EmbedqError, NotFound, ProviderBusy
from ..model import Claimed, Delivery, Model, Outcome, Priority, TaskStatus, Usage
from ..telemetry import tracing
from .answers import Answers
from .chunking import USUAL, ChunkSize
from .concurrency import STORE_GIVES_WAY_S, Gate
from .model_gate import ModelGate
from .outcomes import charged, left_over, waiting, without_asking
from .provider_circuit import ProviderCircuit
from .requests import Asker
from .runs import NextDue, NextUrgent, Report, TheseTasks
from .sameness import Sameness
from .settler import Settler
from .vectors import Plan, buy, planned, stored, usage
from .worker import ASKS

if TYPE_CHECKING:
    from ..decide.throttle import Throttle
    from ..providers import Provider
    from ..store import Store
    from ..store.rate_limit import Budget
    from .worker import Worker

log = logging.getLogger(__name__)

SUSPECT_AFTER_LOSSES = 2
# Longest wait for the rate limit with tasks that a message names; then they go back to the table.
BUDGET_PATIENCE_S = 15.0
LONGEST_NAP_S = 2.0


class Engine:
    """`providers(model)` makes a provider; it is called once per model and process."""

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
        servers: Callable[[Model], str] = lambda model: "",
        asks: Callable[[Model], str] = lambda model: "",
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
        self.gate = Gate(store.throttles.live, worker.stopping)
        self.circuit = ProviderCircuit(store, worker, self.request_timeout_s, dice)
        self.settler = Settler(store, worker, dice)
        self._asks = asks
        self.sameness = Sameness(store, worker.name, servers)
        self._models = ModelGate(store, self.circuit, self.sameness, dice)

    def run(self, request: TheseTasks | NextDue | NextUrgent) -> Report:
        """Claim, embed and settle."""
        with self.gate.entered() as throttle:
            began_ns = time.time_ns()
            report = self._embed_and_settle(self.claim(request), began_ns)
        if isinstance(request, TheseTasks):
            self._give_back(request.ids, report, throttle)
        return report

    def _give_back(self, ids: Sequence[int], report: Report, throttle: Throttle) -> None:
        """Celery will acknowledge the message: release the tasks that this worker did not claim. Tasks that a mode, a stop or a pause
        forbids to claim are not released here; the steward frees them when it finds no message for them."""
        if not report.claimed and (self._limited or self.worker.stopping.is_set()):
            self.store.tasks.free(ids)
        elif throttle:
            self.store.throttles.put_off(ids, throttle)

    def run_overdue(self, fallback_s: float, priorities: Sequence[Priority] = tuple(Priority)) -> Report:
        """In hybrid mode, for a poller: claim and embed tasks that the broker has not delivered for `fallback_s` seconds."""
        if self.worker.stopping.is_set():
            return Report()
        with self.gate.entered():
            began_ns = time.time_ns()
            claimed = self.store.tasks.claim_overdue(self.worker.id, self.batch_size, fallback_s, priorities)
            return self._embed_and_settle(claimed, began_ns)

    def _embed_and_settle(self, claimed: Sequence[Claimed], began_ns: int) -> Report:
        report = Report(claimed=len(claimed))
        self.worker.counters["claimed"] += len(claimed)
        # Start no request that could end after the time for which tasks may be held.
        deadline = time.monotonic() + self.timeout_s - max(self.timeout_s / 10, self.request_timeout_s)
        with tracing.batch(claimed, began_ns) as batch:
            for together in _apart(claimed):
                with tracing.span("embedq.embed", tasks=len(together)), self.worker.under_way.at("embed"):
                    outcomes = self.embed(together, report, deadline)
                self.gate.give_way(STORE_GIVES_WAY_S)
                with tracing.span("embedq.settle", tasks=len(outcomes)), self.worker.under_way.at("settle"):
                    states = self.settler.settle(outcomes, report)
                batch.ended(outcomes, states)
        return report

    def claim(self, request: TheseTasks | NextDue | NextUrgent) -> list[Claimed]:
        """Claim what may be claimed now. If only the throttle's rate forbids it, wait without holding a task."""
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
            return self.circuit.paused(tasks, self._provider_of(model_id), busy, report)
        held_back = self._models.admit(asker, report)
        if held_back is not None:
            return [waiting(task, report.wait_s, held_back) for task in tasks]
        model = asker.provider.model
        plans = list(planned(tasks, asker.max_input_tokens, self._sizes(model), headings=model.preparation.headings))
        urgency = min((task.priority for task in tasks), key=list(Priority).index)

        def stop() -> bool:
            return self.worker.stopping.is_set() or time.monotonic() > deadline

        began, looks = time.monotonic(), self.sameness.is_due(asker)
        bought, answers = buy(self.store.vectors, asker, plans, stop, urgency, with_canary=looks)
        self.worker.counters["requests"] += answers.requests
        self.worker.counters["reused"] += sum(not had.share for had in answers.had.values())
        why = self._models.seen(asker, answers, report, began)
        if why is not None:
            price = number_for(self._prices, asker.provider.model)
            return [waiting(each.task, report.wait_s, why)._replace(usage=usage(each, answers, price)) for each in bought]
        return self._outcomes(asker, bought, answers, report)

    def _outcomes(self, asker: Asker, plans: Sequence[Plan], answers: Answers, report: Report) -> list[Outcome]:
        if answers.busy is not None:
            self.circuit.paused([], asker.provider.model.provider, answers.busy, report)
        left, price = set(answers.left), number_for(self._prices, asker.provider.model)
        return [self._outcome(plan, answers, left, usage(plan, answers, price), report) for plan in plans]

    def _outcome(self, plan: Plan, answers: Answers, left: AbstractSet[int], bill: Usage, report: Report) -> Outcome:
        if answers.refused or left:
            refused = next((answers.refused[p] for p in plan.positions if p in answers.refused), None)
            if refused is not None:
                return charged(plan.task, refused, self.policy, self.dice())._replace(usage=bill)
            if not left.isdisjoint(plan.positions):
                return left_over(plan.task, answers, report.wait_s)._replace(usage=bill)
        return Outcome(plan.task, TaskStatus.COMPLETED, charged=True, stored=stored(plan, answers), usage=bill)

    def prepare(self) -> None:
        """Make the active model's provider before the first task arrives: its imports take as long as ten requests."""
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
            self.worker.said[f"{ASKS}{model}"] = self._asks(model)
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
