"""When a maintenance window begins and ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any


class Due(StrEnum):
    """The step of a maintenance window that is due."""

    NOTHING = "nothing"
    BEGIN = "begin"
    END = "end"


def due(window: Mapping[str, Any] | None, now: datetime) -> Due:
    """Which step of a window is due now. A window that passed while no steward ran is begun and then ended, so that the audit log has both."""
    if window is None:
        return Due.NOTHING
    if window["state"] == "scheduled":
        return Due.BEGIN if datetime.fromisoformat(window["starts_at"]) <= now else Due.NOTHING
    ends_at = window.get("ends_at")
    return Due.END if ends_at and datetime.fromisoformat(ends_at) <= now else Due.NOTHING
