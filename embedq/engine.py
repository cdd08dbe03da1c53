"""The story of a task: claim, load, plan, embed, settle. The same for every delivery.

Three short transactions and none around the provider (SPEC G8): the claim commits before the request is sent, the
settle begins after the answer came. What a settle finds no longer its own, it leaves alone.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from .asking import Answers, Asker
from .decide.chunking import Chunk, chunk
from .decide.retry import GiveUp, RetryAt, RetryPolicy, after_failure, provider_pause_s
from .errors import ConfigError, Fault, InputRefused, ProviderBusy, StoreUnavailable
from .model import Claimed, Delivery, Model, Outcome, Priority, Stored, TaskStatus

if TYPE_CHECKING:
    from .providers import Provider
    from .store import Settled, Store
    from .worker import Worker

log = logging.getLogger(__name__)

SUSPECT_AFTER_LOSSES = 2
CHUNK_TOKENS = 2000
CHUNK_OVERLAP_TOKENS = 100
PROBE_S = 90.0
SETTLE_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class TheseTasks:
    """What a message asks for."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class NextDue:
    """What a poller asks for: whatever is due and not with the broker, these priorities in this order."""

    priorities: Sequence[Priority] = tuple(Priority)
    grace_s: float = 0.0


@dataclass(slots=True)
class Report:
    """How one run went. `wait_s` is set when the provider was at fault: how long its tasks wait."""

    claimed: int = 0
    settled: Counter[str] = field(default_factory=Counter)
    late: int = 0
    busy: ProviderBusy | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One article's part in a request: its chunks, and where their texts stand among the request's inputs."""

    task: Claimed
    chunks: Sequence[Chunk]
    first: int

    @property
    def positions(self) -> range:
        return range(self.first, self.first + len(self.chunks))


class Engine:
    """`providers` makes the provider of a model, once per process."""

    def __init__(
        self, store: Store, worker: Worker, providers: Callable[[Model], Provider], policy: RetryPolicy, *,
        batch_size: int = 100, timeout_s: float = 300.0, dice: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.store = store
        self.worker = worker
        self.policy = policy
        self.batch_size = batch_size
        self.timeout_s = timeout_s
        self.dice = dice
        self._providers = providers
        self._askers: dict[int, Asker] = {}

    def run(self, request: TheseTasks | NextDue) -> Report:
        """Claim what is asked for, embed it, settle it."""
        return self._embed_and_settle(self.claim(request))

    def run_overdue(self, fallback_s: float) -> Report:
        """In hybrid mode, for a poller: what the broker has not delivered for `fallback_s` seconds."""
        if self.worker.stopping.is_set():
            return Report()
        return self._embed_and_settle(self.store.tasks.claim_overdue(self.worker.id, self.batch_size, fallback_s))

    def _embed_and_settle(self, claimed: Sequence[Claimed]) -> Report:
        report = Report(claimed=len(claimed))
        self.worker.counters["claimed"] += len(claimed)
        deadline = time.monotonic() + self.timeout_s * 0.9
        for together in _apart(claimed):
            outcomes = self.embed(together, report, deadline)
            self.settle(outcomes, report)
        return report

    def claim(self, request: TheseTasks | NextDue) -> list[Claimed]:
        delivery, tasks, worker = Delivery(self.worker.delivery), self.store.tasks, self.worker.id
        if self.worker.stopping.is_set():
            return []
        match request:
            case NextDue(priorities, grace_s):
                claimed = tasks.claim_due(worker, delivery, priorities, self.batch_size, grace_s)
            case TheseTasks(ids):
                claimed = tasks.claim_named(worker, delivery, ids, max(len(ids), self.batch_size))
                if 0 < len(claimed) < self.batch_size:
                    claimed += tasks.claim_due(worker, delivery, [claimed[0].priority], self.batch_size - len(claimed))
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
        except ConfigError as wrong:
            busy = ProviderBusy(str(wrong), hint=wrong.hint, retry_after_s=60.0)
            return self._paused(tasks, self._provider_of(model_id), busy, report)
        held_back = self._gate(asker, report)
        if held_back is not None:
            return [waiting(task, report.wait_s, held_back) for task in tasks]
        plans = list(planned(tasks, asker.provider.limits.max_input_tokens))
        texts = [chunk.text for plan in plans for chunk in plan.chunks]
        answers = asker.ask(texts, stop=lambda: self.worker.stopping.is_set() or time.monotonic() > deadline)
        self.worker.counters["requests"] += answers.requests
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
        if not self.store.models.may_probe(provider, PROBE_S):
            report.wait_s = 0.2 + 0.8 * self.dice()
            return f"waiting for the probe of {provider}: {state['pause_reason']}"
        sick = asker.canary()
        if sick is None:
            self._recovered(provider)
            return None
        report.wait_s = self._pause(provider, sick)
        report.busy = sick
        return str(sick)

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
        left = set(answers.left)
        outcomes = []
        for plan in plans:
            refused = next((answers.refused[p] for p in plan.positions if p in answers.refused), None)
            if refused is not None:
                outcomes.append(self._charged(plan.task, refused))
            elif left.intersection(plan.positions):
                outcomes.append(
                    waiting(
                        plan.task, report.wait_s, str(answers.busy) if answers.busy else "handed back by a worker that stopped"
                    )
                )
            else:
                outcomes.append(Outcome(plan.task, TaskStatus.COMPLETED, charged=True, stored=stored(plan, answers)))
        return outcomes

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

    def settle(self, outcomes: Sequence[Outcome], report: Report) -> None:
        if not outcomes:
            return
        settled = self._settle_when_the_store_answers(outcomes)
        report.settled.update(settled.states.values())
        report.late += settled.late
        self.worker.counters.update(settled.states.values())
        self.worker.counters["late"] += settled.late

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

    def asker(self, model_id: int) -> Asker:
        if model_id not in self._askers:
            model = self.store.models.by_id().get(model_id)
            if model is None:
                raise ConfigError(f"model {model_id} is not registered", hint="`embedq model list` shows the models")
            self._askers[model_id] = Asker(self._providers(model), self.batch_size)
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
    if task.stored_hash == task.text_hash:
        return Outcome(task, TaskStatus.COMPLETED)
    return None


def waiting(task: Claimed, wait_s: float, why: str) -> Outcome:
    """Back to the table, and nobody is charged."""
    return Outcome(task, TaskStatus.PENDING, wait_s=wait_s, message=why)


def planned(tasks: Sequence[Claimed], max_input_tokens: int) -> Iterator[Plan]:
    first = 0
    for task in tasks:
        assert task.text is not None
        chunks = chunk(task.text, min(CHUNK_TOKENS, max_input_tokens), CHUNK_OVERLAP_TOKENS)
        yield Plan(task, chunks, first)
        first += len(chunks)


def stored(plan: Plan, answers: Answers) -> Stored:
    import numpy as np

    return Stored(
        vectors=np.stack([answers.vectors[position] for position in plan.positions]),
        starts=tuple(chunk.start for chunk in plan.chunks),
        ends=tuple(chunk.end for chunk in plan.chunks),
        hashes=tuple(hashlib.sha256(chunk.text.encode()).digest() for chunk in plan.chunks),
        tokens=sum(answers.tokens[position] for position in plan.positions),
    )
