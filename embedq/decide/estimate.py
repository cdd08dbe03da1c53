"""Estimates when a task will be embedded, from the tasks ahead of it and the rate of the queue; otherwise the reason why there is no estimate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from ..model import Priority


class Estimate(NamedTuple):
    """Seconds; or None, with the reason."""

    eta_s: float | None
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """The state of the queue. `waiting`: open tasks by priority. `per_s`: recently settled tasks per second. `workers`: living processes of
    deliveries that may claim in this mode."""

    waiting: dict[str, int]
    per_s: float
    workers: int
    is_running: bool = True
    paused_priorities: Collection[str] = ()
    paused_tenants: Collection[str] = ()
    provider_pause_s: float = 0.0


def estimate(flow: Flow, priority: Priority, tenant: str, *, due_in_s: float = 0.0) -> Estimate:
    """For the newest task of its priority: everything at least as urgent is ahead of it."""
    if not flow.is_running:
        return Estimate(None, "embedding is stopped; an operator starts it again")
    if priority in flow.paused_priorities or tenant in flow.paused_tenants:
        return Estimate(None, "this priority or tenant is paused; an operator resumes it")
    if not flow.workers:
        return Estimate(None, "no worker is running that may claim it")
    ahead = sum(flow.waiting.get(each, 0) for each in tuple(Priority)[: tuple(Priority).index(priority) + 1])
    if flow.per_s <= 0:
        return Estimate(None, "nothing has been embedded lately, so there is no rate to go by") if ahead > 1 else Estimate(1.0)
    return Estimate(round(max(due_in_s, flow.provider_pause_s) + max(1, ahead) / flow.per_s, 1))
