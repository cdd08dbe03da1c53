"""Sends the batches of one call of `Asker.ask`, and finds which tasks are charged an attempt when the provider does not answer with vectors (G6).

The *canary*, a harmless text that any provider embeds, decides. When a request fails in a way that its inputs may have caused and the
canary is embedded, the inputs are the cause: the batch is halved until the input is found. When the canary fails too, the provider is at
fault and no task is charged (docs/why/canary.rst).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import Fault, InputRefused, ProviderBusy
from ..model import Priority
from ..providers.faults import Cause
from .answers import Answers, Had, Text
from .batching import Verdict, isolate

if TYPE_CHECKING:
    from ..providers import Embedded
    from .requests import Asker

# Seconds for which a successful probe counts.
CANARY_HOLDS_S = 5.0


class Sending:
    """One call of `Asker.ask` under way. `beside`: a request may have one input more than a batch."""

    def __init__(
        self, asker: Asker, items: Sequence[Text], stop: Callable[[], bool], priority: Priority, *, beside: bool = False
    ) -> None:
        self.asker, self.items, self.stop, self.priority, self.beside = asker, items, stop, priority, beside
        self.answers = Answers()
        self.tried_twice = self.whole_refused = False
        self.asked_at = 0.0
        self.taken: Sequence[int] = []  # the largest part of a batch that was answered

    @property
    def max_inputs(self) -> int:
        return self.asker.max_inputs + self.beside

    def sort_out(self, batch: Sequence[int]) -> None:
        self.taken, self.whole_refused, limits = [], False, self.asker.provider.limits
        trials = isolate(batch)
        try:
            positions = next(trials)
            while True:
                positions = trials.send(self.verdict(positions))
        except StopIteration as found:
            self.answers.left += found.value.left
            nothing_wrong = not found.value.refused and not found.value.left
            if self.whole_refused and nothing_wrong and self.asker.provider.limits == limits:
                self.asker.too_large(self.taken, sum(self.items[position].tokens for position in self.taken))

    def verdict(self, positions: Sequence[int]) -> Verdict:
        if self.answers.busy is not None or self.answers.later is not None or self.stop():
            return Verdict.INTERRUPTED
        if self.too_large(positions):
            return Verdict.REFUSED
        with self.asker.pacer.turn(self.stop) as allowed:
            return self.asked(positions) if allowed else Verdict.INTERRUPTED

    def too_large(self, positions: Sequence[int]) -> bool:
        """Whether a limit learnt since the batch was planned says that this request would be refused."""
        tokens = [self.items[position].tokens for position in positions]
        limits = self.asker.provider.limits
        longest = limits.max_input_tokens + limits.overhead_tokens
        if len(positions) > 1:
            return len(positions) > self.max_inputs or sum(tokens) > self.asker.max_tokens or max(tokens) > longest
        if tokens[0] > longest:
            self.answers.refused[positions[0]] = InputRefused(
                f"the text has about {tokens[0]:,} tokens, and the provider takes {longest:,} (both estimated)",
                hint="set EMBEDDING_MAX_INPUT_TOKENS to what the model takes",
            )
        return tokens[0] > longest

    def asked(self, positions: Sequence[int]) -> Verdict:
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
        self.asker.pacer.answered(tokens, self.asker.clock() - self.asked_at)
        self.taken = max(self.taken, positions, key=len)
        return Verdict.OK

    def request(self, positions: Sequence[int]) -> Embedded:
        self.answers.requests += 1
        self.asked_at = self.asker.clock()
        return self.asker.call([self.items[position].text for position in positions])

    def keep(self, positions: Sequence[int], embedded: Embedded) -> None:
        """Distribute the charged tokens in proportion to the estimates; the parts add up to the total."""
        estimated = sum(self.items[position].tokens for position in positions)
        share, before, told = 1 / len(positions), 0, 0
        for position, vector in zip(positions, embedded.vectors, strict=True):
            before += self.items[position].tokens
            tokens = round(embedded.tokens * before / estimated) - told
            told += tokens
            self.answers.had[position] = Had(vector, tokens, share)

    def suspect(self, positions: Sequence[int], busy: ProviderBusy) -> Verdict:
        """Repeat the request once, then let the canary decide. Not repeated after a time-out, because the server may still be working on it."""
        if busy.cause == Cause.NO_ANSWER_IN_TIME:
            self.asker.pacer.timed_out(sum(self.items[position].tokens for position in positions))
        elif not self.tried_twice:
            self.tried_twice = True
            return self.asked(positions)
        return self.blame(positions, busy)

    def blame(self, positions: Sequence[int], fault: Fault) -> Verdict:
        if isinstance(fault, ProviderBusy) or len(positions) == 1:
            sick = self.asker.canary(self.since(positions, fault))
            if sick is not None:
                return self.interrupted(sick)
        if len(positions) == 1:
            self.answers.refused[positions[0]] = fault
        self.whole_refused |= isinstance(fault, InputRefused)
        return Verdict.REFUSED

    def since(self, positions: Sequence[int], fault: Fault) -> float:
        """The earliest time of a successful probe that still counts. Before a text is charged for a fault that may be the provider's, the
        probe must be newer than its request."""
        if isinstance(fault, ProviderBusy) and len(positions) == 1:
            return self.asked_at
        return self.asker.clock() - CANARY_HOLDS_S

    def interrupted(self, busy: ProviderBusy) -> Verdict:
        self.answers.busy = busy
        return Verdict.INTERRUPTED
