"""What a process does in which mode. Every such decision is made here.

Two inputs decide. The *live state* is the row `embedding_worker_status`, the same for every process. The *process's own settings* can only
restrict it: `EMBEDDING_QUEUE_ENABLED=false` makes this process's writes embed before they return, `SEMANTIC_SEARCH_ENABLED=false` turns
embedding off in it. The more restrictive one applies: `off` before `sync` before the others. If both say the same, the setting is reported,
because it still applies after the next switch.

Neither setting allows a worker to claim what the live mode forbids (G5).
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
    """The row `embedding_worker_status`: the operator's settings for all processes. The fields are its columns.

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
        """From a row of the table, or some of its columns; None: the row is missing."""
        return MISSING if row is None else cls(**{name: TYPED.get(name, _as_is)(row[name]) for name in COLUMNS if name in row})

    def columns(self) -> dict[str, Any]:
        """The values as stored in the table."""
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
# The jsonb columns may have been edited by hand: invalid values are ignored.
TYPED: Mapping[str, Callable[[Any], Any]] = {
    "mode": Mode,
    "paused_priorities": tuple,
    "paused_tenants": tuple,
    "throttle": throttle_of,
    "maintenance": lambda window: window if isinstance(window, Mapping) else None,
}
# The state while the row is missing: no claim is allowed, and the triggers make tasks as in the mode of a recreated row.
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
    published to the broker. `celery_claims`, `poller_claims`: what a worker of each delivery may claim in this process.
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
    """The mode that the process's settings force; None: the live mode applies."""
    if not process.search_enabled:
        return Mode.OFF
    return None if process.queue_enabled else Mode.SYNC


def claims_here(process: ProcessEnv) -> bool:
    """Whether a worker process with these settings may claim in any live mode. If not, it does not dispatch either."""
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
    """The table of docs/reference/modes.rst, one case per row, while nothing is stopped or paused."""
    match mode:
        case Mode.CELERY:
            return Decision(mode, source, reason, True, False, True, True, PollerClaims.NOTHING, True)
        case Mode.DATABASE:
            return Decision(mode, source, reason, True, False, False, False, PollerClaims.EVERYTHING, True)
        case Mode.HYBRID:
            return Decision(mode, source, reason, True, False, True, True, PollerClaims.UNDELIVERED, True)
        case Mode.SYNC:
            # Remaining tasks are dispatched too: with Celery workers only, and no poller, they would wait for ever.
            return Decision(mode, source, reason, False, True, True, True, PollerClaims.DRAIN, True)
        case Mode.OFF:
            return Decision(mode, source, reason, False, False, False, False, PollerClaims.NOTHING, False)
        case _:
            assert_never(mode)


def _claims_of_live_mode(decision: Decision, live: LiveState) -> Decision:
    """`sync` by a setting changes only this process's writes; claims follow the live mode."""
    allowed = _of_mode(live.mode, decision.source, decision.reason)
    return replace(
        decision, dispatches=allowed.dispatches, celery_claims=allowed.celery_claims, poller_claims=allowed.poller_claims
    )


def _stopped_and_paused(decision: Decision, live: LiveState) -> Decision:
    """`is_running = false` stops claims and dispatch; writes in `sync` claim nothing and continue. While submissions are paused an article
    is saved, and found stale afterwards."""
    if not live.is_running:
        decision = replace(decision, dispatches=False, celery_claims=False, poller_claims=PollerClaims.NOTHING)
    if not live.submissions_accepted:
        decision = replace(decision, makes_tasks=False, embeds_on_write=False)
    return decision


# What a mode means for all processes, while nothing is stopped ----------------------------------------------------------------------------------


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
    """Whether a write leaves a task in this mode."""
    return usual(mode).makes_tasks


def pollers_take_over(mode: Mode) -> bool:
    """Whether pollers claim dispatched tasks that the broker does not deliver."""
    return dispatches(mode) and Delivery.POLLER in deliveries(mode)


def pollers_stand_back(mode: Mode) -> bool:
    """Whether pollers leave free tasks to the dispatcher for a short time first."""
    return usual(mode).poller_claims is PollerClaims.UNDELIVERED


def able(mode: Mode, celery_workers: int, pollers: int) -> int:
    """The number of these living workers that may claim in this mode."""
    alive = {Delivery.CELERY: celery_workers, Delivery.POLLER: pollers}
    return sum(alive[delivery] for delivery in deliveries(mode))


# Parameters of the SQL statements that claim and dispatch.
CLAIMING = {delivery: [mode for mode in Mode if delivery in deliveries(mode)] for delivery in Delivery}
DISPATCHING = [mode for mode in Mode if dispatches(mode)]
TAKING_OVER = [mode for mode in Mode if pollers_take_over(mode)]
STANDING_BACK = [mode for mode in Mode if pollers_stand_back(mode)]
