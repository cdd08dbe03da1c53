"""What a run of the engine claims, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ProviderBusy
from ..model import Priority


@dataclass(frozen=True, slots=True)
class TheseTasks:
    """The tasks that a message names, by id."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class NextDue:
    """What a poller claims: due tasks that are not with the broker, by priority in this order."""

    priorities: Sequence[Priority] = tuple(Priority)
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NextUrgent:
    """What a Celery worker's thread for urgent tasks claims: also tasks whose message is with the broker."""


@dataclass(slots=True)
class Report:
    """The result of one run. `wait_s`: seconds that tasks wait because the provider was at fault; None otherwise."""

    claimed: int = 0
    settled: Counter[str] = field(default_factory=Counter)
    late: int = 0
    busy: ProviderBusy | None = None
    wait_s: float = 0.0
