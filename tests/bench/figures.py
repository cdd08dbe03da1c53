"""A figure: what was measured, against what, and whether the target was met. Nothing here measures anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is a median, in `unit`. `ratio` compares with `other`, measured in the same rounds. `met` is None without a target."""

    name: str
    value: float
    unit: str
    against: str = ""
    other: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    raw: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {key: _rounded(value) for key, value in asdict(self).items()}

    def line(self) -> str:
        said = f"{self.name}: {_number(self.value)} {self.unit}"
        if self.ratio is not None:
            said += f", {_number(self.ratio)} x {self.against}" + (
                f" ({_number(self.other)} {self.unit})" if self.other else ""
            )
        if self.target:
            said += f"; target {self.target}: {'met' if self.met else 'MISSED'}"
        return said


def alone(name: str, unit: str, values: Sequence[float], *, at_most: float | None = None) -> Figure:
    """A figure with nothing beside it; its target, if any, is absolute."""
    value = median(values)
    target, met = ("", None) if at_most is None else (f"<= {at_most:g} {unit}", value <= at_most)
    return Figure(name, value, unit, target=target, met=met, raw={"ours": list(values)})


def compared(
    name: str,
    unit: str,
    ours: Sequence[float],
    other: Sequence[float],
    against: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Two things measured in the same rounds: the ratio is the median of the rounds' ratios, so that a slow minute hurts both."""
    ratio = median(one / two for one, two in zip(ours, other, strict=True))
    target, met = "", None
    if at_most is not None:
        target, met = f"<= {at_most:g} x", ratio <= at_most
    if at_least is not None:
        target, met = f">= {at_least:g} x", ratio >= at_least
    raw = {"ours": list(ours), "other": list(other)}
    return Figure(name, median(ours), unit, against, median(other), ratio, target, met, raw)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
