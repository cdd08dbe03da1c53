"""How texts are put into requests, and how the culprits in a refused request are found. Positions in, positions out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, assert_never


class Sized(Protocol):
    """Anything that knows how many tokens it is likely to be."""

    @property
    def tokens(self) -> int: ...


class Verdict(Enum):
    """How a request with a batch ended. `INTERRUPTED`: neither its inputs' merit nor their fault (the provider is busy)."""

    OK = auto()
    REFUSED = auto()
    INTERRUPTED = auto()


@dataclass(slots=True)
class Found:
    """Where each position ended. `left` is what was not decided because a request was interrupted; in order."""

    ok: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


def plan(items: Sequence[Sized], max_inputs: int, max_tokens: int) -> list[list[int]]:
    """Batches of positions in `items`, order kept, each position exactly once, no batch empty.

    A batch holds at most `max_inputs` items and `max_tokens` estimated tokens; an item larger than that stands alone, so
    that its refusal is charged to nobody else. Raises ValueError when a limit is below 1.
    """
    batches: list[list[int]] = []
    while (begin := batches[-1][-1] + 1 if batches else 0) < len(items):
        batches.append(next_batch(items, begin, max_inputs, max_tokens))
    return batches


def next_batch(items: Sequence[Sized], begin: int, max_inputs: int, max_tokens: int) -> list[int]:
    """The positions of the batch that begins with `begin`, by the same limits: for a caller whose limits change on the way."""
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
    """Sort a batch into what the provider takes and what it refuses, by halving what is refused.

    Yields the positions of the next request and is sent its Verdict; returns Found. The whole batch comes first, so an
    innocent batch costs one request. Every refused position has been refused on its own: nothing is concluded from its
    neighbours, because a request may be refused for its size and both of its halves be taken. k culprits among n cost at
    most 1 + 2 k (1 + log2 n) requests. An interruption ends it: a busy provider is not asked for the other half.
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
