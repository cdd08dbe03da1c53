"""Providers: the services that embed. The promise each keeps is here; who keeps it is in the modules beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. Tokens are estimates (SPEC P6)."""

    max_inputs: int
    max_tokens: int
    max_input_tokens: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: one row per text, in order, shape (len(texts), dimensions), float32. `tokens`: what the provider charged."""

    vectors: np.ndarray
    tokens: int


class Provider(Protocol):
    """What the engine asks of a provider. Implementations may be called from several threads at once."""

    model: Model
    limits: Limits

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order; count, order, dimensions and finiteness are checked before it returns.

        Raises ProviderBusy when the same call may succeed later, InputRefused when not. Holds no transaction, no lock.
        """
        ...

    def close(self) -> None:
        """Give back connections. Safe to call twice."""
        ...
