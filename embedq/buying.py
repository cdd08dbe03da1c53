"""Buying vectors: what is stored is reused, what is the same is asked for once, and each task's part of the bill is written down (P4, P5).

Only within a tenant: that another tenant has the same text is nobody's business (docs/why/reuse.rst).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .asking import Answers, Asker, Had
from .decide.chunking import Chunk, chunk
from .decide.prices import cost
from .errors import StoreUnavailable
from .model import Claimed, Priority, Stored, Usage
from .store.vectors import TextKey, Vectors

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

CHUNK_TOKENS = 2000
CHUNK_OVERLAP_TOKENS = 100


class Plan(NamedTuple):
    """One article's part in a request: its chunks, the keys of their texts, and where the first stands among all positions."""

    task: Claimed
    chunks: Sequence[Chunk]
    keys: tuple[TextKey, ...]
    first: int

    @property
    def positions(self) -> range:
        return range(self.first, self.first + len(self.chunks))


def planned(tasks: Sequence[Claimed], max_input_tokens: int) -> Iterator[Plan]:
    first = 0
    for task in tasks:
        assert task.text is not None
        chunks = chunk(task.text, min(CHUNK_TOKENS, max_input_tokens), CHUNK_OVERLAP_TOKENS)
        keys = tuple(TextKey(task.tenant_id, hashlib.sha256(each.text.encode()).digest()) for each in chunks)
        yield Plan(task, chunks, keys, first)
        first += len(chunks)


def buy(
    vectors: Vectors, asker: Asker, plans: Sequence[Plan], stop: Callable[[], bool], priority: Priority = Priority.NORMAL
) -> Answers:
    """A vector for every position of the plans, as far as the provider gives them. What was reused cost nothing."""
    keys = [key for plan in plans for key in plan.keys]
    texts = [each.text for plan in plans for each in plan.chunks]
    # Whoever wants an article embedded anew does not trust what is stored.
    trusting = [key for plan in plans if not plan.task.forced for key in plan.keys]
    known = _known(vectors, asker.provider.model.id, trusting)
    first_of: dict[TextKey, int] = {}
    for position, key in enumerate(keys):
        if key not in known:
            first_of.setdefault(key, position)
    asked = list(first_of.values())
    found = asker.ask([texts[position] for position in asked], stop, priority)
    return found if len(asked) == len(keys) else _spread(keys, known, asked, found)


def _known(vectors: Vectors, model_id: int, keys: Sequence[TextKey]) -> Mapping[TextKey, np.ndarray]:
    try:
        return vectors.known(model_id, list(dict.fromkeys(keys)))
    except StoreUnavailable as away:
        # Reuse saves money; that it cannot be had now is no reason to stop.
        log.info("no vectors are reused this time: %s", away)
        return {}


def _spread(keys: Sequence[TextKey], known: Mapping[TextKey, np.ndarray], asked: Sequence[int], found: Answers) -> Answers:
    """From the texts asked for to all positions: the first that has a text pays for it."""
    spread = Answers(busy=found.busy, requests=found.requests, later=found.later)
    place_of = {keys[position]: place for place, position in enumerate(asked)}
    left = set(found.left)
    for position, key in enumerate(keys):
        place = place_of.get(key)
        if place is None:
            spread.had[position] = Had(known[key])
        elif place in found.had:
            had = found.had[place]
            spread.had[position] = had if asked[place] == position else Had(had.vector)
        elif place in found.refused:
            spread.refused[position] = found.refused[place]
        else:
            assert place in left
            spread.left.append(position)
    return spread


def usage(plan: Plan, answers: Answers, price: float) -> Usage:
    """The plan's part of the bill; `price` of a million tokens."""
    had = [answers.had[position] for position in plan.positions if position in answers.had]
    tokens, bought = sum(one.tokens for one in had), [one.share for one in had if one.share]
    return Usage(sum(bought), len(bought), len(had) - len(bought), tokens, cost(tokens, price))


def stored(plan: Plan, answers: Answers) -> Stored:
    return Stored(
        vectors=[answers.had[position].vector for position in plan.positions],
        starts=[each.start for each in plan.chunks],
        ends=[each.end for each in plan.chunks],
        hashes=[key.digest for key in plan.keys],
        tokens=sum(answers.had[position].tokens for position in plan.positions),
    )
