"""The input and output types of the health rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from ..model import Mode, Priority
from .broker_states import BrokerState
from .circuit_breaker import ProviderState
from .modes import able, makes_tasks, pollers_take_over
from .progress import Progress
from .sameness import Swapped


class Level(StrEnum):
    """A problem makes `embedq health` fail; a note is information only."""

    PROBLEM = "problem"
    NOTE = "note"


class Finding(NamedTuple):
    """`next` is a command, or what to do. `rule`: the name of the rule that found it, for alerts and metrics."""

    level: Level
    what: str
    next: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The measured state. `broker`: None if it was not checked; `broker_why`: why it did not answer; `broker_states`: why it may lose or
    refuse messages; `of_another_kind`: queues in it that are declared with other arguments than embedq's. `waiting`: pending tasks by
    priority. `consumed`, `polled`: queues that a living Celery worker or poller serves. `oldest_due_s`: for how long the oldest task has
    been due; None if no task has been due for long.
    `failing`: repeatedly failing threads of workers. `broker_refuses`: why a broker that answers accepts no message; `unpublished`: why
    workers cannot publish. `clock_behind_s`: by how much PostgreSQL's clock is behind the newest rows. `losing`: tasks in work whose
    workers died more than once; `died_young`: workers that died soon after their start.
    `failed` and `settled` are of the last hour, `failed_ever` of all time. `sources`: those that are behind their table, have rows that cannot be
    read, or have lost it. `swapped`: models whose server returns vectors of another model."""

    mode: Mode
    live_row_missing: bool = False
    is_running: bool = True
    submissions_accepted: bool = True
    dispatch_held: bool = False
    paused_priorities: Sequence[str] = ()
    paused_tenants: Sequence[str] = ()
    broker: bool | None = None
    broker_why: str = ""
    broker_states: Sequence[BrokerState] = ()
    of_another_kind: Sequence[str] = ()
    celery_workers: int = 0
    pollers: int = 0
    steward: bool = True
    consumed: frozenset[str] = frozenset(Priority)
    polled: frozenset[str] = frozenset(Priority)
    waiting: Mapping[str, int] = field(default_factory=dict)
    oldest_due_s: float | None = None
    stuck: int = 0
    failing: Sequence[str] = ()
    troubles: Sequence[ProviderState] = ()
    swapped: Sequence[Swapped] = ()
    failed: int = 0
    settled: int = 0
    failed_ever: int = 0
    progress: Progress = Progress()
    broker_refuses: str = ""
    unpublished: Sequence[str] = ()
    read_only: bool = False
    clock_behind_s: float = 0.0
    losing: int = 0
    died_young: int = 0
    sources: Sequence[Mapping[str, Any]] = ()

    @property
    def backlog(self) -> int:
        return sum(self.waiting.values())

    @property
    def workers(self) -> int:
        """Number of living workers that may claim in this mode."""
        return able(self.mode, self.celery_workers, self.pollers)

    @property
    def covered(self) -> bool:
        """Whether living pollers claim tasks that the broker does not deliver."""
        return pollers_take_over(self.mode) and self.pollers > 0

    @property
    def has_work(self) -> bool:
        """Whether workers are needed: there are tasks, or the mode makes them."""
        return makes_tasks(self.mode) or self.backlog > 0
