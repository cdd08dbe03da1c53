"""Gets vectors for claimed tasks: stored vectors of the same text are reused, equal texts are sent once, and each task's tokens and
requests are recorded.

Reuse is limited to one tenant: a tenant must not learn that another has the same text (docs/why/reuse.rst).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ..decide.prices import cost
from ..decide.tokens import estimate_tokens
from ..errors import InputRefused, StoreUnavailable
from ..model import Claimed, Priority, Stored, Usage
from ..store.vectors import TextKey, Vectors
from .answers import Answers, Had
from .chunking import USUAL, Chunk, ChunkSize, chunk, chunk_with_headings
from .requests import Asker

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

# A text of this size (128 bytes) is never cut: no known model takes less.
NEVER_TOO_LONG_TOKENS = 32


class Plan(NamedTuple):
    """One article's part of a request: its chunks, the keys of their texts, and the position of the first chunk among all."""

    task: Claimed
    chunks: Sequence[Chunk]
    keys: tuple[TextKey, ...]
    first: int

    @property
    def positions(self) -> range:
        return range(self.first, self.first + len(self.chunks))


def planned(
    tasks: Sequence[Claimed], max_input_tokens: int, size: ChunkSize = USUAL, *, headings: bool = False
) -> Iterator[Plan]:
    """The plan of each task: its chunks and their positions."""
    first, cut = 0, chunk_with_headings if headings else chunk
    for task in tasks:
        assert task.text is not None
        chunks = cut(task.text, max(1, min(size.tokens, max_input_tokens)), size.overlap_tokens)
        yield _plan(task, chunks, first)
        first += len(chunks)


def _plan(task: Claimed, chunks: Sequence[Chunk], first: int) -> Plan:
    keys = tuple(TextKey(task.tenant_id, hashlib.sha256(each.embedded.encode()).digest()) for each in chunks)
    return Plan(task, chunks, keys, first)


def buy(
    vectors: Vectors,
    asker: Asker,
    plans: Sequence[Plan],
    stop: Callable[[], bool],
    priority: Priority = Priority.NORMAL,
    *,
    with_canary: bool = False,
) -> tuple[Sequence[Plan], Answers]:
    """The vectors of all positions that the provider answered. Reused ones cost nothing. `with_canary`: also send the canary, if anything is sent.

    A refused text is halved, whatever reason was given, until its pieces are accepted or too short to be refused for their length; the
    returned plans have the pieces as chunks.
    """
    bought: dict[TextKey, Had] = {}
    requests = 0
    while True:
        answers = _round(vectors, asker, plans, stop, priority, bought, with_canary and not requests)
        answers.requests = requests = requests + answers.requests
        cuttable = _cuttable(plans, answers)
        if not cuttable or answers.busy is not None or answers.later is not None or stop():
            return plans, _not_refused_yet(answers, cuttable)
        bought |= {
            key: answers.had[p] for plan in plans for p, key in zip(plan.positions, plan.keys, strict=True) if p in answers.had
        }
        plans = list(_recut(plans, cuttable, asker))


def _round(
    vectors: Vectors,
    asker: Asker,
    plans: Sequence[Plan],
    stop: Callable[[], bool],
    priority: Priority,
    bought: Mapping[TextKey, Had],
    with_canary: bool,
) -> Answers:
    keys = [key for plan in plans for key in plan.keys]
    texts = [each.embedded for plan in plans for each in plan.chunks]
    # A reindex asks for new vectors: stored ones are not reused.
    trusting = [key for plan in plans if not plan.task.forced for key in plan.keys if key not in bought]
    known = {key: Had(vector) for key, vector in _known(vectors, asker.provider.model.id, trusting).items()} | dict(bought)
    first_of: dict[TextKey, int] = {}
    for position, key in enumerate(keys):
        if key not in known:
            first_of.setdefault(key, position)
    asked = list(first_of.values())
    found = asker.ask([texts[position] for position in asked], stop, priority, with_canary=with_canary and bool(asked))
    return found if len(asked) == len(keys) else _spread(keys, known, asked, found)


def _cuttable(plans: Sequence[Plan], answers: Answers) -> set[int]:
    """Refused positions whose texts are long enough that their length may be the reason."""
    if not answers.refused:
        return set()
    chunks = {position: each for plan in plans for position, each in zip(plan.positions, plan.chunks, strict=True)}
    return {position for position in answers.refused if estimate_tokens(chunks[position].text) > NEVER_TOO_LONG_TOKENS}


def _not_refused_yet(answers: Answers, cuttable: Set[int]) -> Answers:
    """The run ended before these texts could be cut: their tasks wait and are not charged. Exception: a text on which the provider failed
    is charged when time ran out, or it would be retried for ever."""
    ours = answers.busy is not None or answers.later is not None
    for position in cuttable:
        if ours or isinstance(answers.refused[position], InputRefused):
            del answers.refused[position]
            answers.left.append(position)
    return answers


def _recut(plans: Sequence[Plan], cuttable: Set[int], asker: Asker) -> Iterator[Plan]:
    first = 0
    for plan in plans:
        pieces = [
            list(_halves(each, asker) if p in cuttable else [each]) for p, each in zip(plan.positions, plan.chunks, strict=True)
        ]
        again = _plan(plan.task, list(chain.from_iterable(pieces)), first)
        yield again
        first += len(again.chunks)


def _halves(whole: Chunk, asker: Asker) -> Iterator[Chunk]:
    tokens = min(estimate_tokens(whole.text) // 2, asker.max_input_tokens)
    asker.cut(tokens)
    for piece in chunk(whole.text, tokens):
        yield Chunk(whole.start + piece.start, whole.start + piece.end, piece.text, whole.head)


def _known(vectors: Vectors, model_id: int, keys: Sequence[TextKey]) -> Mapping[TextKey, np.ndarray]:
    try:
        return vectors.known(model_id, list(dict.fromkeys(keys)))
    except StoreUnavailable as away:
        # Reuse only saves money: without it the text is asked for.
        log.info("no vectors are reused this time: %s", away)
        return {}


def _spread(keys: Sequence[TextKey], known: Mapping[TextKey, Had], asked: Sequence[int], found: Answers) -> Answers:
    """Copy the results of distinct texts to all positions; the first position of a text carries its cost."""
    spread = Answers(busy=found.busy, requests=found.requests, later=found.later)
    place_of = {keys[position]: place for place, position in enumerate(asked)}
    unpaid = dict(known)
    left = set(found.left)
    for position, key in enumerate(keys):
        place = place_of.get(key)
        if place is None:
            spread.had[position] = had = unpaid[key]
            unpaid[key] = Had(had.vector)
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
    """The plan's tokens, requests and cost; `price` per million tokens."""
    had = [answers.had[position] for position in plan.positions if position in answers.had]
    tokens, bought = sum(one.tokens for one in had), [one.share for one in had if one.share]
    return Usage(sum(bought), len(bought), len(had) - len(bought), tokens, cost(tokens, price))


def stored(plan: Plan, answers: Answers) -> Stored:
    """The plan's vectors in the form that the store writes."""
    return Stored(
        vectors=[answers.had[position].vector for position in plan.positions],
        starts=[each.start for each in plan.chunks],
        ends=[each.end for each in plan.chunks],
        hashes=[key.digest for key in plan.keys],
        tokens=sum(answers.had[position].tokens for position in plan.positions),
    )
