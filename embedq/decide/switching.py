"""What a switch from one mode to another means, from the table of modes alone."""

from __future__ import annotations

from ..model import Delivery, Mode
from .modes import deliveries, makes_tasks


def switched_off(before: Mode, after: Mode) -> frozenset[Delivery]:
    """The deliveries whose claims end with this switch."""
    return deliveries(before) - deliveries(after)


def begins_making_tasks(before: Mode, after: Mode) -> bool:
    """What was written meanwhile has no task yet: reconcile."""
    return makes_tasks(after) and not makes_tasks(before)
