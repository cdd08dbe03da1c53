"""How texts are grouped into requests, and how the inputs that cause a refusal are found by halving. Works on positions only."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, assert_never


class Sized(Protocol):
    """Anything with an estimated number of tokens."""

    @property
    def tokens(self) -> int: ...


class Verdict(Enum):
    """How a request with a batch ended. `INTERRUPTED`: it says nothing about the inputs (the provider is busy)."""

    OK = auto()
    REFUSED = auto()
    INTERRUPTED = auto()


@dataclass(slots=True)
class Found:
    """The result for each position. `left`: undecided because a request was interrupted; in order."""

    ok: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


def plan(items: Sequence[Sized], max_inputs: int, max_tokens: int) -> list[list[int]]:
    """Batches of positions in `items`, order kept, each position exactly once, no batch empty.

    A batch holds at most `max_inputs` items and `max_tokens` estimated tokens; an item larger than that is a batch of its own, so that its
    refusal is not charged to others. Raises ValueError when a limit is below 1.
    """
    batches: list[list[int]] = []
    while (begin := batches[-1][-1] + 1 if batches else 0) < len(items):
        batches.append(next_batch(items, begin, max_inputs, max_tokens))
    return batches


def next_batch(items: Sequence[Sized], begin: int, max_inputs: int, max_tokens: int) -> list[int]:
    """The positions of the batch that begins at `begin`, by the same limits: for callers whose limits change between batches."""
    if max_inputs < 1 or max_tokens < 1:
        raise ValueError(f"a batch must be allowed an input and a token, not {max_inputs} and {max_tokens}")
    end, room = begin + 1, max_tokens - items[begin].tokens
    while end < len(items) and end - begin < max_inputs and (room := room - items[end].tokens) >= 0:
        end += 1
    return list(range(begin, end))


def halves(batch: Sequence[int]) -> tuple[list[int], list[int]]:
    """The first half (the larger by one when the count is odd) and the rest."""
    middle = (len(batch) + 1) // 2
    return list(batch[:middle]), list(batch[middle:])


def isolate(batch: Sequence[int]) -> Generator[list[int], Verdict, Found]:
    """Find which inputs of a batch the provider accepts and which it refuses, by halving refused parts.

    Yields the positions of the next request and is sent its Verdict; returns Found. The whole batch is tried first, so a batch without a
    refused input costs one request. A position counts as refused only when a request with it alone was refused, because a request may be
    refused for its size and both halves be accepted. k refused inputs among n cost at most 1 + 2 k (1 + log2 n) requests. An interruption
    ends it: a busy provider is not asked for the other half.
    """
    found = Found()
    waiting = [list(batch)] if batch else []
    while waiting:
        tried = waiting.pop()
        verdict = yield tried
        match verdict:
            case Verdict.OK:
                found.ok += tried
            case Verdict.REFUSED if len(tried) == 1:
                found.refused += tried
            case Verdict.REFUSED:
                waiting += reversed(halves(tried))
            case Verdict.INTERRUPTED:
                found.left = tried + [position for later in reversed(waiting) for position in later]
                return found
            case _:
                assert_never(verdict)
    return found
