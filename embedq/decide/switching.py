"""Consequences of a switch between two modes."""

from __future__ import annotations

from ..model import Delivery, Mode
from .modes import deliveries, makes_tasks


def switched_off(before: Mode, after: Mode) -> frozenset[Delivery]:
    """The deliveries whose claims end with this switch."""
    return deliveries(before) - deliveries(after)


def begins_making_tasks(before: Mode, after: Mode) -> bool:
    """Whether the switch starts making tasks; articles written before have none, so reconcile must run."""
    return makes_tasks(after) and not makes_tasks(before)
