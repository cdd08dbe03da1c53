"""What goes wrong, and when: a list of steps made from a seed alone, so that a failure can be played again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

# Something is given this long to recover before the same part is hit again.
REST_S = 0.6
FIRST_S = 1.0


class Kind(NamedTuple):
    """One way to go wrong. `part`: what it happens to; two faults of one part never overlap. It lasts `least_s` to `most_s`
    seconds until it is mended; zero: there is nothing to mend."""

    name: str
    part: str
    least_s: float = 0.0
    most_s: float = 0.0


class Step(NamedTuple):
    """`begin` (or mend) the fault `number`, `at_s` seconds after the start. `dice`, from 0 to 1, chooses its victim."""

    at_s: float
    number: int
    kind: Kind
    begin: bool
    dice: float


KINDS = (
    Kind("kill a celery worker", "workers"),
    Kind("kill a poller", "workers"),
    Kind("kill the steward's leader", "workers"),
    Kind("freeze a worker", "frozen", 1.0, 12.0),
    Kind("freeze the steward's leader", "frozen", 1.0, 4.0),
    Kind("freeze a worker and take its tasks away", "frozen", 1.0, 4.0),
    Kind("end a worker in order", "workers"),
    Kind("kill Redis", "redis", 0.2, 4.0),
    Kind("flush Redis", "redis"),
    Kind("freeze Redis", "redis", 0.5, 3.0),
    Kind("restart PostgreSQL", "postgres", 0.1, 1.0),
    Kind("kill PostgreSQL", "postgres", 0.1, 1.0),
    Kind("break connections", "postgres"),
    Kind("provider hangs", "provider", 0.5, 4.0),
    Kind("provider limits", "provider", 0.5, 3.0),
    Kind("provider answers 500", "provider", 0.5, 4.0),
    Kind("provider answers 503", "provider", 0.5, 4.0),
    Kind("provider is gone", "provider", 0.2, 3.0),
    Kind("provider returns too few", "provider", 0.5, 3.0),
    Kind("provider cuts off", "provider", 0.5, 3.0),
    Kind("provider disconnects", "provider", 0.5, 3.0),
    Kind("provider is slow", "provider", 1.0, 4.0),
    Kind("stop by command", "running", 0.5, 3.0),
    Kind("stop by hand", "running", 0.5, 3.0),
    Kind("pause a priority", "pause", 0.5, 3.0),
    Kind("pause a tenant", "pause", 0.5, 3.0),
    Kind("refuse submissions", "submissions", 0.2, 2.0),
    Kind("switch the mode", "mode"),
    Kind("switch the mode", "mode"),
    Kind("switch the mode by hand", "mode"),
    Kind("fail what is pending, by hand", "tasks"),
    Kind("cancel what is pending, by hand", "tasks"),
    Kind("set in flight back to pending, by hand", "tasks"),
    Kind("delete what is in flight, by hand", "tasks"),
    Kind("delete what is open, by hand", "tasks"),
    Kind("retry what ended, by hand", "tasks"),
    Kind("reconcile", "tasks"),
    Kind("a model comes and goes", "model", 2.0, 8.0),
    Kind("the application changes a table", "table", 0.5, 4.0),
    Kind("a function in a source's expression fails", "source", 0.5, 4.0),
    Kind("a source's triggers are disabled", "source", 0.5, 4.0),
    Kind("two operators switch the mode at once", "mode"),
)


def plan(seed: int, seconds: float, every_s: float, kinds: Sequence[Kind] = KINDS) -> list[Step]:
    """Steps in order of time, about one fault in `every_s` seconds. Every fault is mended before `seconds` are over."""
    dice = Random(seed)
    steps: list[Step] = []
    deck, free_at = _deck(dice, kinds), {kind.part: 0.0 for kind in kinds}
    at_s, number, kept = FIRST_S, 0, list[Kind]()
    while at_s < seconds:
        kind = _drawn(deck, kept, free_at, at_s)
        ends_s = at_s + dice.uniform(kind.least_s, kind.most_s)
        if ends_s < seconds:
            steps += _steps(number, kind, at_s, ends_s, dice.random())
            free_at[kind.part] = ends_s + REST_S
            number += 1
        at_s += dice.uniform(0.2, 1.8) * every_s
    return sorted(steps)


def _deck(dice: Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    """Every kind once in random order, and again: a short run meets as many as it can, a long one all of them."""
    while True:
        yield from dice.sample(kinds, len(kinds))


def _drawn(deck: Iterator[Kind], kept: list[Kind], free_at: dict[str, float], at_s: float) -> Kind:
    """The next card whose part is at rest; those passed over are `kept` for the next turn."""
    passed: list[Kind] = []
    while True:
        kind = kept.pop(0) if kept else next(deck)
        if free_at[kind.part] <= at_s:
            kept[:0] = passed
            return kind
        passed.append(kind)


def _steps(number: int, kind: Kind, at_s: float, ends_s: float, dice: float) -> Iterator[Step]:
    yield Step(at_s, number, kind, True, dice)
    if kind.most_s:
        yield Step(ends_s, number, kind, False, dice)
