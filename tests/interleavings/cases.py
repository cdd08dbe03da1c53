"""Which cases there are: every pair (and triple) of operations on every start state in which all of them have something to do."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement

from .case import READ_COMMITTED, Case
from .operations import APPLICATION, HAND, OPERATIONS
from .states import STATES

SERIALIZABLE = "serializable"
# Where writers meet only each other: what workers hold makes no difference to them that these do not show.
WRITERS_STATES = {"embedded_one", "pending", "held_edit", "three", "building", "failed_twice"}
# How the first worker settles what it holds: it says one thing of a claim, and may say that twice.
OUTCOMES = {"settle_embedded", "settle_failed", "settle_waits", "settle_skipped"}
# What is run beside writers alone: all else meets its parts.
BESIDE_WRITERS = "model_made"


def cases(size: int, *, only: Sequence[str] = (), isolations: Sequence[str] = (READ_COMMITTED,)) -> list[Case]:
    """`only`: each case has at least one of these operations, or begins in one of these states."""
    return [
        Case(state, names, isolation)
        for state in STATES
        for names in combinations_with_replacement(sorted(n for n, o in OPERATIONS.items() if state in o.where), size)
        for isolation in isolations
        if _makes_sense(state, names, isolation) and (not only or state in only or set(names) & set(only))
    ]


def _makes_sense(state: str, names: Sequence[str], isolation: str) -> bool:
    kinds = [OPERATIONS[name].kind for name in names]
    writers = kinds.count(APPLICATION)
    if len(OUTCOMES & set(names)) > 1:
        return False
    if BESIDE_WRITERS in names and writers < len(names) - 1:
        return False
    if isolation != READ_COMMITTED and not writers:
        return False
    if isolation == SERIALIZABLE and writers < 2:
        return False  # beside transactions that are not, it is as REPEATABLE READ: SERIALIZABLE ones watch only each other
    if writers + kinds.count(HAND) == len(kinds) and state not in WRITERS_STATES:
        return False
    return len(set(names)) == len(names) or len(names) == 2


def sampled(all_cases: Iterable[Case], seed: int, number: int) -> list[Case]:
    """So many of them, in an order that the seed decides."""
    shuffled = list(all_cases)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:number]
