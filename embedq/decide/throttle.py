"""The operator's throttle: limits of rate, batch size and concurrency. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import InputError

# The rate is enforced in every period of this length, so that no burst of a minute's tasks occurs.
STRETCH_S: Final = 10.0
LONGEST_WAIT_S: Final = 60.0
_SECONDS: Final = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/\s*(s|sec|min|h))?")


@dataclass(frozen=True, slots=True)
class Throttle:
    """`rate`: tasks claimed per minute, by all processes together. `batch`: tasks per claim. `concurrency`: concurrent batches of one
    process. None: the settings apply."""

    rate: float | None = None
    batch: int | None = None
    concurrency: int | None = None

    def __bool__(self) -> bool:
        return self != Throttle()

    @property
    def stretch_s(self) -> float:
        """The window in which `stretch_tasks` may be claimed: ten seconds, or as long as one task takes at a slower rate."""
        return max(STRETCH_S, 60.0 / self.rate) if self.rate else STRETCH_S

    @property
    def stretch_tasks(self) -> int:
        return max(1, int(self.rate * self.stretch_s / 60.0 + 1e-9)) if self.rate else 2**31 - 1

    def batch_of(self, wanted: int) -> int:
        return min(wanted, self.batch) if self.batch else wanted

    def depth_of(self, wanted: int) -> int:
        """Limit of the broker's depth: no more than one period's tasks, or messages would be handed back repeatedly."""
        return min(wanted, max(self.stretch_tasks, self.batch or 1)) if self.rate else wanted

    def wait_s(self, place: int) -> float:
        """Seconds until the task at this position (1, 2, …) among those beyond the rate may be claimed again."""
        return min(LONGEST_WAIT_S, 60.0 * place / self.rate) if self.rate else 0.0

    def data(self) -> dict[str, float | int]:
        """The throttle as JSON for the live row."""
        named = {"rate_per_min": self.rate, "batch": self.batch, "concurrency": self.concurrency}
        return {key: value for key, value in named.items() if value is not None}

    def told(self) -> str:
        parts = [f"{self.rate:g} tasks/min" if self.rate else "", f"batches of {self.batch}" if self.batch else ""]
        parts.append(f"{self.concurrency} at once in a process" if self.concurrency else "")
        return ", ".join(part for part in parts if part) or "none"


def throttle_of(kept: Any) -> Throttle:
    """From the live row, which may have been edited by hand: invalid values are ignored."""
    given: Mapping[str, Any] = kept if isinstance(kept, Mapping) else {}
    return Throttle(_positive(given.get("rate_per_min")), _whole(given.get("batch")), _whole(given.get("concurrency")))


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _whole(value: Any) -> int | None:
    return int(value) if _positive(value) is not None and value >= 1 else None


def rate_per_min(text: str) -> float:
    """`600/min`, `10/s`, `5000/h`, or a bare number, per minute. Raises InputError."""
    found = _RATE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise InputError(f"{text!r} is not a rate", hint="write 600/min, 10/s or 5000/h")
    return float(found[1]) * 60.0 / _SECONDS[found[2] or "min"]
