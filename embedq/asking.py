"""Asking a provider, and finding out who pays when it does not answer with vectors (SPEC G6).

The *canary* decides: a harmless text that any provider embeds. When a request fails in a way that its inputs may be to
blame for and the canary is embedded, the fault travels with the inputs, which are halved until the culprit stands
alone. When the canary fails too, the provider is at fault and nobody is charged (docs/why/canary.rst).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .decide.batching import Verdict, isolate, plan
from .decide.budget import PATIENCE_S, Here, Later, leave_alone_s
from .decide.tokens import estimate_tokens
from .errors import Fault, InputRefused, ProviderBusy, StoreUnavailable
from .model import Priority
from .providers.secrets import mask

if TYPE_CHECKING:
    import numpy as np

    from .providers import Embedded, Provider
    from .store.budget import Budget

CANARY = "embedq asks whether this provider is well"
CANARY_HOLDS_S = 5.0


class Text(NamedTuple):
    """One input of a request, with its estimated size."""

    text: str
    tokens: int


class Had(NamedTuple):
    """What was had for one position: its vector, shape (dimensions,), float32; tokens charged; its share of a request, 0 when it cost none."""

    vector: np.ndarray
    tokens: int = 0
    share: float = 0.0


@dataclass(slots=True)
class Answers:
    """What became of each position. `busy` says why `left` was not answered: the provider's fault; or `later`: its budget is spent;
    or neither: we were stopped."""

    had: dict[int, Had] = field(default_factory=dict)
    refused: dict[int, Fault] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    busy: ProviderBusy | None = None
    requests: int = 0
    later: Later | None = None


class Asker:
    """Asks one provider. Used by several threads; what they share is only when the canary last sang."""

    def __init__(
        self, provider: Provider, max_inputs: int, clock: Callable[[], float] = time.monotonic, budget: Budget | None = None
    ) -> None:
        self.provider = provider
        self.budget = budget
        self.max_inputs = min(max_inputs, provider.limits.max_inputs)
        self.max_tokens = min(provider.limits.max_tokens, (budget and budget.max_tokens) or provider.limits.max_tokens)
        self.clock = clock
        self._well_at = float("-inf")

    def ask(self, texts: Sequence[str], stop: Callable[[], bool], priority: Priority = Priority.NORMAL) -> Answers:
        """Ask for every text, in as many requests as it takes; before each, `stop()` may end it, or the budget of this priority."""
        items = [Text(text, estimate_tokens(text)) for text in texts]
        asking = _Asking(self, items, stop, priority)
        for batch in plan(items, self.max_inputs, self.max_tokens):
            asking.sort_out(batch)
        return asking.answers

    def canary(self, since: float = float("inf")) -> ProviderBusy | None:
        """None when the provider embeds a harmless text, else its fault. One that sang after `since` (by the clock) counts."""
        if self._well_at >= since:
            return None
        if self.budget is not None:
            self.budget.spend(estimate_tokens(CANARY))
        try:
            self.call([CANARY])
        except ProviderBusy as busy:
            return busy
        except InputRefused as refused:
            return ProviderBusy(
                f"it refuses every text: {refused}",
                hint="check EMBEDDING_MODEL and EMBEDDING_DIMENSIONS; `embedq provider check`",
            )
        self._well_at = self.clock()
        return None

    def await_place(self, tokens: int, priority: Priority) -> Later | None:
        """Wait for this request's place in line; when it is too far off, nobody claims for a while, and the answer says how long."""
        if self.budget is None:
            return None
        try:
            place = self.budget.take(tokens, priority, PATIENCE_S)
            if isinstance(place, Here):
                time.sleep(place.wait_s)
                return None
            place = Later(leave_alone_s(place.wait_s))
            self.budget.leave_alone(place.wait_s)
        except StoreUnavailable:
            place = Later(PATIENCE_S)
        return place

    def call(self, texts: Sequence[str]) -> Embedded:
        """The provider's `embed`; what it was not supposed to raise (a plug-in's own error) is its fault, not a crash of ours."""
        try:
            return self.provider.embed(texts)
        except Fault:
            raise
        except Exception as surprise:
            name = self.provider.model.provider
            raise ProviderBusy(
                f"{name} raised {type(surprise).__name__}: {mask(str(surprise), ())[:300]}",
                hint="see the worker's log",
                suspect_input=True,
            ) from surprise


class _Asking:
    """One call of `ask` under way."""

    def __init__(self, asker: Asker, items: Sequence[Text], stop: Callable[[], bool], priority: Priority) -> None:
        self.asker, self.items, self.stop, self.priority = asker, items, stop, priority
        self.answers = Answers()
        self.tried_twice = False
        self.asked_at = 0.0

    def sort_out(self, batch: Sequence[int]) -> None:
        trials = isolate(batch)
        try:
            positions = next(trials)
            while True:
                positions = trials.send(self.verdict(positions))
        except StopIteration as found:
            self.answers.left += found.value.left

    def verdict(self, positions: Sequence[int]) -> Verdict:
        if self.answers.busy is not None or self.answers.later is not None or self.stop():
            return Verdict.INTERRUPTED
        tokens = sum(self.items[position].tokens for position in positions)
        self.answers.later = self.asker.await_place(tokens, self.priority)
        if self.answers.later is not None:
            return Verdict.INTERRUPTED
        try:
            self.keep(positions, self.request(positions))
        except ProviderBusy as busy:
            return self.suspect(positions, busy) if busy.suspect_input else self.interrupted(busy)
        except InputRefused as refused:
            return self.blame(positions, refused)
        return Verdict.OK

    def request(self, positions: Sequence[int]) -> Embedded:
        self.answers.requests += 1
        self.asked_at = self.asker.clock()
        return self.asker.call([self.items[position].text for position in positions])

    def keep(self, positions: Sequence[int], embedded: Embedded) -> None:
        per_token = embedded.tokens / sum(self.items[position].tokens for position in positions)
        share = 1 / len(positions)
        for position, vector in zip(positions, embedded.vectors, strict=True):
            self.answers.had[position] = Had(vector, round(self.items[position].tokens * per_token), share)

    def suspect(self, positions: Sequence[int], busy: ProviderBusy) -> Verdict:
        """The same once more, in case it passes; then the canary decides."""
        if not self.tried_twice:
            self.tried_twice = True
            return self.verdict(positions)
        return self.blame(positions, busy)

    def blame(self, positions: Sequence[int], fault: Fault) -> Verdict:
        if isinstance(fault, ProviderBusy) or len(positions) == 1:
            sick = self.asker.canary(self.since(positions, fault))
            if sick is not None:
                return self.interrupted(sick)
        if len(positions) == 1:
            self.answers.refused[positions[0]] = fault
        return Verdict.REFUSED

    def since(self, positions: Sequence[int], fault: Fault) -> float:
        """How old a canary may be. Before a text pays for what may be the provider's fault, one that sang after its request."""
        if isinstance(fault, ProviderBusy) and len(positions) == 1:
            return self.asked_at
        return self.asker.clock() - CANARY_HOLDS_S

    def interrupted(self, busy: ProviderBusy) -> Verdict:
        self.answers.busy = busy
        return Verdict.INTERRUPTED
