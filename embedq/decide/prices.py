"""Parses numbers per model, and the daily spending cap. `0.02` applies to all models; `openai=500,ollama/bge-m3=60` by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ..model import Model

PER_TOKENS: Final = 1_000_000
TOKENS: Final = "tokens"


@dataclass(frozen=True, slots=True)
class Cap:
    """The spending limit of a day (UTC): money in the currency of the price table, or tokens."""

    limit: float
    in_tokens: bool = False

    def reached(self, cost: float, tokens: int) -> bool:
        return (tokens if self.in_tokens else cost) >= self.limit

    def __str__(self) -> str:
        return f"{self.limit:,.0f} tokens" if self.in_tokens else f"{self.limit:,.2f}"


def numbers(raw: str) -> dict[str, float]:
    """`provider`, `provider/name` or `provider/name/dimensions` -> number; the empty name applies to all. Raises ValueError."""
    found: dict[str, float] = {}
    for part in raw.split(","):
        if part.strip():
            name, _, number = part.rpartition("=")
            found[name.strip()] = _number(number.strip())
    return found


def number_for(raw: str, model: Model) -> float:
    """The number of the most specific name that matches this model; 0 if none does."""
    return named_for(raw, model) or 0.0


def named_for(raw: str, model: Model) -> float | None:
    """As `number_for`; None if no name matches."""
    known = numbers(raw)
    asked = f"{model.provider}/{model.asked_as}"
    names = (str(model), f"{model.provider}/{model.name}", f"{asked}/{model.dimensions}", asked, model.provider, "")
    return next((known[name] for name in names if name in known), None)


def cost(tokens: int, price: float) -> float:
    """The cost of these tokens; `price` per million."""
    return tokens * price / PER_TOKENS


def cap_of(raw: str) -> Cap | None:
    """Parse `12.50` (money) or `5000000 tokens`; None for an empty text: no cap. Raises ValueError."""
    if not raw:
        return None
    number, _, unit = raw.partition(" ")
    if unit.strip() not in ("", TOKENS):
        raise ValueError("must be an amount, or an amount and the word tokens")
    return Cap(_number(number), in_tokens=bool(unit.strip()))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{text!r} must be 0 or more")
    return number
