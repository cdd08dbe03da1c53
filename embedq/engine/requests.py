"""Requests to one provider: their size, the canary, the rate limit. What becomes of a request that fails is in `sending`.

The size of requests adapts to the provider: to the limits that its refusals name (`providers.dialect`), and to the time that answers take
(`decide.pace`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..decide.budget import PATIENCE_S, Here, Later, leave_alone_s
from ..decide.tokens import estimate_tokens
from ..errors import Fault, InputRefused, ProviderBusy, StoreUnavailable
from ..model import Priority
from ..providers.secrets import mask
from .answers import Answers, Text
from .batching import next_batch
from .pacing import Pacer
from .sending import Sending

if TYPE_CHECKING:
    import numpy as np

    from ..providers import Embedded, Provider
    from ..store.rate_limit import Budget

CANARY = "embedq asks whether this provider is well"
# After this many cut texts the provider's limit is taken to be lower than its table says.
CUTS_TEACH = 20


class Asker:
    """Sends requests to one provider. Threads share it, with the time of the last successful probe."""

    def __init__(
        self,
        provider: Provider,
        max_inputs: int,
        clock: Callable[[], float] = time.monotonic,
        budget: Budget | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.provider = provider
        self.budget = budget
        self.batch_size = self.wanted_inputs = max_inputs
        self.most_tokens = provider.limits.max_tokens
        self.clock = clock
        self.pacer = Pacer(timeout_s)
        # When the canary was embedded last, by `clock`, and its vector, shape (dimensions,), float32.
        self.probed_at = float("-inf")
        self.canary_vector: np.ndarray | None = None
        self._cut_to: list[int] = []

    @property
    def max_input_tokens(self) -> int:
        """Largest size of one text, estimated; lower than the provider's limit once several texts had to be cut."""
        longest = self.provider.limits.max_input_tokens
        return min(longest, max(self._cut_to)) if len(self._cut_to) >= CUTS_TEACH else longest

    def cut(self, tokens: int) -> None:
        """Record that a refused text is cut into pieces of `tokens` tokens."""
        self._cut_to = [*self._cut_to, tokens][-CUTS_TEACH:]

    def too_large(self, taken: Sequence[int], tokens: int) -> None:
        """Lower the batch size: a batch was refused without naming a size, and each of its inputs was accepted in a smaller one. `taken`:
        the largest part that was answered."""
        if len(taken) > 1:
            self.batch_size = min(self.batch_size, len(taken))
        elif taken:
            self.most_tokens = min(self.most_tokens, tokens)

    @property
    def max_inputs(self) -> int:
        return min(self.batch_size, self.provider.limits.max_inputs)

    @property
    def max_tokens(self) -> int:
        most = min(self.provider.limits.max_tokens, self.most_tokens, self.pacer.pace.max_tokens)
        return min(most, (self.budget and self.budget.max_tokens) or most)

    def ask(
        self, texts: Sequence[str], stop: Callable[[], bool], priority: Priority = Priority.NORMAL, *, with_canary: bool = False
    ) -> Answers:
        """Embed all texts, in as many requests as needed. `stop()` and the rate limit of this priority are checked before each request.
        `with_canary`: the canary is sent as the second input; its vector is kept in `canary_vector` and is not among the answers."""
        overhead = self.provider.limits.overhead_tokens
        items = [Text(text, estimate_tokens(text) + overhead) for text in (_with_canary(texts) if with_canary else texts)]
        asking, begin = Sending(self, items, stop, priority, beside=with_canary and self._takes_one_more), 0
        while begin < len(items):
            batch = next_batch(items, begin, asking.max_inputs, self.max_tokens)
            asking.sort_out(batch)
            begin = batch[-1] + 1
        return self._without_canary(asking.answers) if with_canary else asking.answers

    @property
    def _takes_one_more(self) -> bool:
        """Whether a request may have one input more than a batch: only while the configured batch size, and no limit of the server, bounds it."""
        return self.batch_size == self.wanted_inputs < self.provider.limits.max_inputs

    def _without_canary(self, answers: Answers) -> Answers:
        if BEHIND in answers.had:
            self.probed_at, self.canary_vector = self.clock(), answers.had[BEHIND].vector
        return replace(
            answers,
            had={_of_text(place): had for place, had in answers.had.items() if place != BEHIND},
            refused={_of_text(place): fault for place, fault in answers.refused.items() if place != BEHIND},
            left=[_of_text(place) for place in answers.left if place != BEHIND],
        )

    def canary(self, since: float = float("inf")) -> ProviderBusy | None:
        """None when the provider embeds the canary, else its fault. A successful probe at or after `since` (by `clock`) is reused."""
        if self.probed_at >= since:
            return None
        try:
            self.probe()
        except ProviderBusy as busy:
            return busy
        return None

    def probe(self, text: str = CANARY) -> np.ndarray:
        """The vector of the canary, or of another text that the provider has embedded before. Raises ProviderBusy when there is none."""
        if self.budget is not None:
            self.budget.spend(estimate_tokens(text))
        try:
            vector: np.ndarray = self.call([text]).vectors[0]
        except InputRefused as refused:
            raise ProviderBusy(
                f"it refuses every text: {refused}",
                hint="check EMBEDDING_MODEL, EMBEDDING_DIMENSIONS and EMBEDDING_PREFIXES; `embedq provider check`",
            ) from refused
        if text == CANARY:
            self.probed_at, self.canary_vector = self.clock(), vector
        return vector

    def await_place(self, tokens: int, priority: Priority) -> Later | None:
        """Wait until the rate limit admits this request. If that takes too long, claims pause; returns for how long."""
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
        """The provider's `embed`; any other exception (of a plug-in) becomes ProviderBusy."""
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


# The canary's position: in the first request, but behind the first text, which is not delayed when a request takes one text only.
BEHIND = 1


def _with_canary(texts: Sequence[str]) -> list[str]:
    return [*texts[:BEHIND], CANARY, *texts[BEHIND:]]


def _of_text(place: int) -> int:
    """The position of a text with the canary left out."""
    return place - (place > BEHIND)
