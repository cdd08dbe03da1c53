"""Buying vectors: what is stored is reused, what is the same is asked for once, and each task's part of the bill is written down (P4, P5).

Only within a tenant: that another tenant has the same text is nobody's business (docs/why/reuse.rst).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .asking import Answers, Asker
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


@dataclass(frozen=True, slots=True)
class Plan:
    """One article's part in a request: its chunks with the hashes of their texts, and where they stand among all positions."""

    task: Claimed
    chunks: Sequence[Chunk]
    hashes: tuple[bytes, ...]
    first: int

    @property
    def positions(self) -> range:
        return range(self.first, self.first + len(self.chunks))

    @property
    def keys(self) -> list[TextKey]:
        return [TextKey(self.task.tenant_id, digest) for digest in self.hashes]


@dataclass(slots=True)
class Bought:
    """What became of each position; `reused` were not asked for. `shares`: of a request that a position was part of."""

    answers: Answers = field(default_factory=Answers)
    reused: set[int] = field(default_factory=set)
    shares: dict[int, float] = field(default_factory=dict)

    def usage(self, plan: Plan, price: float) -> Usage:
        """The plan's part of the bill; `price` of a million tokens."""
        had = [position for position in plan.positions if position in self.answers.vectors]
        tokens = sum(self.answers.tokens[position] for position in had)
        reused = sum(position in self.reused for position in had)
        requests = sum(self.shares.get(position, 0.0) for position in had)
        return Usage(requests=requests, inputs=len(had) - reused, reused=reused, tokens=tokens, cost=cost(tokens, price))


def planned(tasks: Sequence[Claimed], max_input_tokens: int) -> Iterator[Plan]:
    first = 0
    for task in tasks:
        assert task.text is not None
        chunks = chunk(task.text, min(CHUNK_TOKENS, max_input_tokens), CHUNK_OVERLAP_TOKENS)
        yield Plan(task, chunks, tuple(hashlib.sha256(each.text.encode()).digest() for each in chunks), first)
        first += len(chunks)


def buy(
    vectors: Vectors, asker: Asker, plans: Sequence[Plan], stop: Callable[[], bool], priority: Priority = Priority.NORMAL
) -> Bought:
    """A vector for every position of the plans, as far as the provider gives them."""
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
    return _spread(keys, known, asked, asker.ask([texts[position] for position in asked], stop, priority))


def _known(vectors: Vectors, model_id: int, keys: Sequence[TextKey]) -> Mapping[TextKey, np.ndarray]:
    try:
        return vectors.known(model_id, list(dict.fromkeys(keys)))
    except StoreUnavailable as away:
        # Reuse saves money; that it cannot be had now is no reason to stop.
        log.info("no vectors are reused this time: %s", away)
        return {}


def _spread(keys: Sequence[TextKey], known: Mapping[TextKey, np.ndarray], asked: Sequence[int], found: Answers) -> Bought:
    """From the texts asked for to all positions."""
    bought = Bought(Answers(busy=found.busy, requests=found.requests, later=found.later))
    place_of = {keys[position]: place for place, position in enumerate(asked)}
    firsts = set(asked)
    left = set(found.left)
    for position, key in enumerate(keys):
        place = place_of.get(key)
        if place is None or place in found.vectors:
            bought.answers.vectors[position] = known[key] if place is None else found.vectors[place]
            _bill(bought, position, found, place if position in firsts else None)
        elif place in found.refused:
            bought.answers.refused[position] = found.refused[place]
        else:
            assert place in left
            bought.answers.left.append(position)
    return bought


def _bill(bought: Bought, position: int, found: Answers, place: int | None) -> None:
    """`place`: among the texts asked for; None when this position cost nothing."""
    if place is None:
        bought.reused.add(position)
    else:
        bought.shares[position] = found.shares[place]
    bought.answers.tokens[position] = 0 if place is None else found.tokens[place]


def stored(plan: Plan, answers: Answers) -> Stored:
    import numpy as np

    return Stored(
        vectors=np.stack([answers.vectors[position] for position in plan.positions]),
        starts=tuple(each.start for each in plan.chunks),
        ends=tuple(each.end for each in plan.chunks),
        hashes=plan.hashes,
        tokens=sum(answers.tokens[position] for position in plan.positions),
    )
