"""The whole table of modes, as docs/reference/modes.rst shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from ..model import Mode
from .modes import Decision, LiveState, ProcessEnv, decide


class Row(NamedTuple):
    """One line of the table: the inputs and the decision."""

    live: LiveState
    process: ProcessEnv
    decision: Decision


def table() -> list[Row]:
    """Every combination of live mode, switches and settings, once, in a fixed order."""
    return [Row(live, process, decide(live, process)) for live, process in _combinations()]


def _combinations() -> Iterator[tuple[LiveState, ProcessEnv]]:
    both = (True, False)
    for search, queue, running, accepted, mode in product(both, both, both, both, Mode):
        yield LiveState(mode, running, accepted), ProcessEnv(queue_enabled=queue, search_enabled=search)


HEADINGS = (
    "live mode",
    "is running",
    "submissions",
    "EMBEDDING_QUEUE_ENABLED",
    "SEMANTIC_SEARCH_ENABLED",
    "mode here",
    "decided by",
    "a write",
    "dispatches",
    "Celery workers claim",
    "pollers claim",
    "search",
)


def rst_table(rows: Iterable[Row]) -> str:
    """The rows as a reStructuredText simple table, ending in a newline. docs/reference/modes.rst is checked against it."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    written = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rule, written[0], rule, *written[1:], rule, ""])


def _cells(row: Row) -> tuple[str, ...]:
    live, process, decision = row
    return (
        live.mode,
        _yes(live.is_running),
        "accepted" if live.submissions_accepted else "paused",
        str(process.queue_enabled).lower(),
        str(process.search_enabled).lower(),
        decision.mode,
        decision.source,
        _write(decision),
        _yes(decision.dispatches),
        _yes(decision.celery_claims),
        decision.poller_claims,
        "on" if decision.search_enabled else "disabled",
    )


def _write(decision: Decision) -> str:
    if decision.embeds_on_write:
        return "embeds"
    return "makes a task" if decision.makes_tasks else "saves only"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
