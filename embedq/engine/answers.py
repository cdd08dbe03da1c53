"""The texts of one request to a provider (`Text`), and the result for each: a vector, a refusal, or not answered yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..decide.budget import Later
from ..errors import Fault, ProviderBusy

if TYPE_CHECKING:
    import numpy as np


class Text(NamedTuple):
    """One input of a request. `tokens`: its estimated size, prefix included."""

    text: str
    tokens: int


class Had(NamedTuple):
    """The result for one position: vector of shape (dimensions,), float32; tokens charged; its share of a request, 0 when no request was
    needed for it (a stored vector, an equal text)."""

    vector: np.ndarray
    tokens: int = 0
    share: float = 0.0


@dataclass(slots=True)
class Answers:
    """The result for each position. Why `left` was not answered: `busy` is the provider's fault; `later`: the rate limit is used up;
    neither: `stop()`."""

    had: dict[int, Had] = field(default_factory=dict)
    refused: dict[int, Fault] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    busy: ProviderBusy | None = None
    requests: int = 0
    later: Later | None = None
