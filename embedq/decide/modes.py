"""What a process does in which mode (SPEC §5). The one place that decides it; everybody else asks.

Two things have a say. The *live state* is the row `embedding_worker_status`, the same for every process. The *process's
own settings* can only take away: `EMBEDDING_QUEUE_ENABLED=false` makes this process's writes embed before they return,
`SEMANTIC_SEARCH_ENABLED=false` makes it do nothing about embedding at all. The stronger word holds: `off` before `sync`
before the others, and of two that say the same the setting is named, because it will still hold after the next switch.

Neither setting gives a worker a claim that the live mode denies: a mode is a fence (G5), and no environment moves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import NamedTuple, assert_never

from ..model import Mode


class Source(StrEnum):
    """Who decided the mode."""

    LIVE = "live"
    QUEUE_ENABLED = "EMBEDDING_QUEUE_ENABLED"
    SEARCH_ENABLED = "SEMANTIC_SEARCH_ENABLED"


class PollerClaims(StrEnum):
    """Which due tasks a poller may claim. `EVERYTHING` and `DRAIN` claim the same; in `DRAIN` no new ones are made."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    UNDELIVERED = "what the broker is not delivering"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class LiveState:
    """The row `embedding_worker_status`: what the operator has ordered, for every process."""

    mode: Mode
    is_running: bool = True
    submissions_accepted: bool = True
    reason: str | None = None
    by: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProcessEnv:
    """EMBEDDING_QUEUE_ENABLED and SEMANTIC_SEARCH_ENABLED of this process."""

    queue_enabled: bool = True
    search_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What this process does.

    `makes_tasks`: a write leaves a task. `embeds_on_write`: a write embeds before it returns. `dispatches`: tasks are
    published to the broker. `celery_claims`, `poller_claims`: what a worker of each delivery may claim here.
    """

    mode: Mode
    source: Source
    reason: str
    makes_tasks: bool
    embeds_on_write: bool
    dispatches: bool
    celery_claims: bool
    poller_claims: PollerClaims
    search_enabled: bool


class Row(NamedTuple):
    """One line of the table: what was asked, what was decided."""

    live: LiveState
    process: ProcessEnv
    decision: Decision


def decide(live: LiveState, process: ProcessEnv) -> Decision:
    """What a process with these settings does while the live state is this."""
    mode, source = _mode(live, process)
    decision = _of_mode(mode, source, _reason(live, source))
    if mode is Mode.SYNC:
        decision = _claims_of_live_mode(decision, live)
    return _stopped_and_paused(decision, live)


def _mode(live: LiveState, process: ProcessEnv) -> tuple[Mode, Source]:
    if not process.search_enabled:
        return Mode.OFF, Source.SEARCH_ENABLED
    if not process.queue_enabled and live.mode is not Mode.OFF:
        return Mode.SYNC, Source.QUEUE_ENABLED
    return live.mode, Source.LIVE


def _reason(live: LiveState, source: Source) -> str:
    match source:
        case Source.LIVE:
            return live.reason or "no reason was given"
        case Source.QUEUE_ENABLED | Source.SEARCH_ENABLED:
            return f"{source}=false in this process; the live mode is {live.mode}"
        case _:
            assert_never(source)


def _of_mode(mode: Mode, source: Source, reason: str) -> Decision:
    """The table of SPEC §5, one row a case, while everything runs."""
    match mode:
        case Mode.CELERY:
            return Decision(mode, source, reason, True, False, True, True, PollerClaims.NOTHING, True)
        case Mode.DATABASE:
            return Decision(mode, source, reason, True, False, False, False, PollerClaims.EVERYTHING, True)
        case Mode.HYBRID:
            return Decision(mode, source, reason, True, False, True, True, PollerClaims.UNDELIVERED, True)
        case Mode.SYNC:
            # What is left is dispatched too: with Celery workers alone, and no poller, it would wait for ever.
            return Decision(mode, source, reason, False, True, True, True, PollerClaims.DRAIN, True)
        case Mode.OFF:
            return Decision(mode, source, reason, False, False, False, False, PollerClaims.NOTHING, False)
        case _:
            assert_never(mode)


def _claims_of_live_mode(decision: Decision, live: LiveState) -> Decision:
    """`sync` by a setting changes what this process's writes do; who may claim stays the live mode's word."""
    allowed = _of_mode(live.mode, decision.source, decision.reason)
    return replace(
        decision,
        dispatches=allowed.dispatches,
        celery_claims=allowed.celery_claims,
        poller_claims=allowed.poller_claims,
    )


def _stopped_and_paused(decision: Decision, live: LiveState) -> Decision:
    """`is_running = false` stops claims, and the dispatch of what nobody could claim; a write in `sync` claims nothing and
    goes on. While submissions are paused an article is saved, and found stale afterwards."""
    if not live.is_running:
        decision = replace(decision, dispatches=False, celery_claims=False, poller_claims=PollerClaims.NOTHING)
    if not live.submissions_accepted:
        decision = replace(decision, makes_tasks=False, embeds_on_write=False)
    return decision


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
