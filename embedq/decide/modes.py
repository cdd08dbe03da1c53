"""What a process does in which mode. The one place that decides it; everybody else asks.

Two things have a say. The *live state* is the row `embedding_worker_status`, the same for every process. The *process's
own settings* can only take away: `EMBEDDING_QUEUE_ENABLED=false` makes this process's writes embed before they return,
`SEMANTIC_SEARCH_ENABLED=false` makes it do nothing about embedding at all. The stronger word holds: `off` before `sync`
before the others, and of two that say the same the setting is named, because it will still hold after the next switch.

Neither setting gives a worker a claim that the live mode denies: a mode is a fence (G5), and no environment moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from ..model import Delivery, Mode
from .throttle import Throttle, throttle_of


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
    """The row `embedding_worker_status`: what the operator has ordered, for every process. The fields are its columns.

    `missing`: the row is gone (MISSING).
    """

    mode: Mode
    is_running: bool = True
    submissions_accepted: bool = True
    reason: str | None = None
    changed_by: str | None = None
    changed_at: datetime | None = None
    dispatch_held: bool = False
    paused_priorities: tuple[str, ...] = ()
    paused_tenants: tuple[str, ...] = ()
    maintenance: Mapping[str, Any] | None = field(default=None, hash=False)
    throttle: Throttle = field(default=Throttle())
    missing: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any] | None) -> LiveState:
        """From a row of the table, or those of its columns that were read; None is a row that is gone."""
        return MISSING if row is None else cls(**{name: TYPED.get(name, _as_is)(row[name]) for name in COLUMNS if name in row})

    def columns(self) -> dict[str, Any]:
        """The values as the table keeps them."""
        lists = {"paused_priorities": [*self.paused_priorities], "paused_tenants": [*self.paused_tenants]}
        return {name: getattr(self, name) for name in COLUMNS} | lists | {"throttle": self.throttle.data()}

    @property
    def dispatches(self) -> bool:
        """Whether anything is published to the broker now."""
        return self.is_running and not self.dispatch_held and dispatches(self.mode)

    @property
    def makes_tasks(self) -> bool:
        """Whether a task can be made for a stale article now."""
        return self.submissions_accepted and makes_tasks(self.mode)

    @property
    def maintenance_runs(self) -> bool:
        return self.maintenance is not None and self.maintenance.get("state") == "running"


def _as_is(value: Any) -> Any:
    return value


COLUMNS = tuple(each.name for each in fields(LiveState) if each.name != "missing")
# A hand may have written the jsonb columns: what makes no sense there counts as not said.
TYPED: Mapping[str, Callable[[Any], Any]] = {
    "mode": Mode,
    "paused_priorities": tuple,
    "paused_tenants": tuple,
    "throttle": throttle_of,
    "maintenance": lambda window: window if isinstance(window, Mapping) else None,
}
# Without the row no claim finds its gate open, and the triggers make tasks as in the mode of a row that is made anew.
MISSING = LiveState(
    Mode.CELERY,
    is_running=False,
    missing=True,
    reason="the live row (embedding_worker_status) is gone, nothing is claimed: `embedq start` makes it anew",
)


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


def decide(live: LiveState, process: ProcessEnv) -> Decision:
    """What a process with these settings does while the live state is this."""
    mode, source = _mode(live, process)
    decision = _of_mode(mode, source, _reason(live, source))
    if mode is Mode.SYNC:
        decision = _claims_of_live_mode(decision, live)
    return _stopped_and_paused(decision, live)


def _mode(live: LiveState, process: ProcessEnv) -> tuple[Mode, Source]:
    match mode_of_process(process):
        case Mode.OFF:
            return Mode.OFF, Source.SEARCH_ENABLED
        case Mode.SYNC if live.mode is not Mode.OFF:
            return Mode.SYNC, Source.QUEUE_ENABLED
        case _:
            return live.mode, Source.LIVE


def mode_of_process(process: ProcessEnv) -> Mode | None:
    """The mode that its own settings ask for; None: the live mode's."""
    if not process.search_enabled:
        return Mode.OFF
    return None if process.queue_enabled else Mode.SYNC


def claims_here(process: ProcessEnv) -> bool:
    """Whether a worker process with these settings may claim in any live mode. One that may not leaves dispatch to others as well."""
    return mode_of_process(process) is not Mode.OFF


CLAIMS_NOTHING = "SEMANTIC_SEARCH_ENABLED=false: this worker claims nothing, dispatches nothing and does not register; unset it and start the worker again"


def _reason(live: LiveState, source: Source) -> str:
    match source:
        case Source.LIVE:
            return live.reason or "no reason was given"
        case Source.QUEUE_ENABLED | Source.SEARCH_ENABLED:
            return f"{source}=false in this process; the live mode is {live.mode}"
        case _:
            assert_never(source)


def _of_mode(mode: Mode, source: Source, reason: str) -> Decision:
    """The table of docs/reference/modes.rst, one row a case, while everything runs."""
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
        decision, dispatches=allowed.dispatches, celery_claims=allowed.celery_claims, poller_claims=allowed.poller_claims
    )


def _stopped_and_paused(decision: Decision, live: LiveState) -> Decision:
    """`is_running = false` stops claims, and the dispatch of tasks that no worker could claim; a write in `sync` claims nothing and
    goes on. While submissions are paused an article is saved, and found stale afterwards."""
    if not live.is_running:
        decision = replace(decision, dispatches=False, celery_claims=False, poller_claims=PollerClaims.NOTHING)
    if not live.submissions_accepted:
        decision = replace(decision, makes_tasks=False, embeds_on_write=False)
    return decision


# What a mode means for all, while everything runs ----------------------------------------------------------------------------------


def usual(mode: Mode) -> Decision:
    return decide(LiveState(mode), ProcessEnv())


def deliveries(mode: Mode) -> frozenset[Delivery]:
    """Which deliveries may claim in this mode."""
    decision = usual(mode)
    poller = decision.poller_claims is not PollerClaims.NOTHING
    return frozenset(d for d, on in ((Delivery.CELERY, decision.celery_claims), (Delivery.POLLER, poller)) if on)


def dispatches(mode: Mode) -> bool:
    """Whether tasks are published to the broker in this mode."""
    return usual(mode).dispatches


def makes_tasks(mode: Mode) -> bool:
    return usual(mode).makes_tasks


def pollers_take_over(mode: Mode) -> bool:
    """Whether pollers claim what the broker was trusted with and does not deliver."""
    return dispatches(mode) and Delivery.POLLER in deliveries(mode)


def pollers_stand_back(mode: Mode) -> bool:
    """Whether pollers leave what is free to the dispatcher for a while."""
    return usual(mode).poller_claims is PollerClaims.UNDELIVERED


def able(mode: Mode, celery_workers: int, pollers: int) -> int:
    """Of so many living workers, those that may claim in this mode."""
    alive = {Delivery.CELERY: celery_workers, Delivery.POLLER: pollers}
    return sum(alive[delivery] for delivery in deliveries(mode))


# As parameters of the statements that claim and dispatch.
CLAIMING = {delivery: [mode for mode in Mode if delivery in deliveries(mode)] for delivery in Delivery}
DISPATCHING = [mode for mode in Mode if dispatches(mode)]
TAKING_OVER = [mode for mode in Mode if pollers_take_over(mode)]
STANDING_BACK = [mode for mode in Mode if pollers_stand_back(mode)]
