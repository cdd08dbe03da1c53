"""What a switch from one mode to another means, from the table of modes alone."""

from __future__ import annotations

from ..model import Delivery, Mode
from .modes import LiveState, PollerClaims, ProcessEnv, decide


def deliveries(mode: Mode) -> frozenset[Delivery]:
    """Which deliveries may claim in this mode."""
    decision = decide(LiveState(mode), ProcessEnv())
    poller = decision.poller_claims is not PollerClaims.NOTHING
    return frozenset(d for d, on in ((Delivery.CELERY, decision.celery_claims), (Delivery.POLLER, poller)) if on)


def switched_off(before: Mode, after: Mode) -> frozenset[Delivery]:
    """The deliveries whose claims end with this switch."""
    return deliveries(before) - deliveries(after)


def dispatches(mode: Mode) -> bool:
    return decide(LiveState(mode), ProcessEnv()).dispatches


def makes_tasks(mode: Mode) -> bool:
    return decide(LiveState(mode), ProcessEnv()).makes_tasks


def begins_making_tasks(before: Mode, after: Mode) -> bool:
    """What was written meanwhile has no task yet: reconcile."""
    return makes_tasks(after) and not makes_tasks(before)
