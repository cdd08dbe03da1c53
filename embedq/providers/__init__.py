"""Providers: the services that embed. This module defines their interface; the implementations are in the modules beside it.

May be imported by engine and above; uses decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request. Tokens are estimates. `overhead_tokens`: tokens of the prefix that is added to each text; `max_input_tokens`:
    limit of one text without the prefix."""

    max_inputs: int
    max_tokens: int
    max_input_tokens: int
    overhead_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: one row per text, in order, shape (len(texts), dimensions), float32. `tokens`: what the provider charged."""

    vectors: np.ndarray
    tokens: int


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """How to reach the providers. `timeout_s` (seconds) limits a whole request, from the connection to the end of the answer.

    `headers` are sent with each request. `max_input_tokens`: the model's limit, 0 if unknown. `parameters`: additional fields of each
    request's body. repr() shows neither the key nor the headers nor passwords in addresses.
    """

    openai_api_key: str | None = field(default=None, repr=False)
    openai_base_url: str | None = field(default=None, repr=False)
    ollama_base_url: str = field(default="http://127.0.0.1:11434", repr=False)
    openai_organization: str | None = None
    openai_project: str | None = None
    timeout_s: float = 60.0
    connect_timeout_s: float = 5.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_input_tokens: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Provider(Protocol):
    """The interface of a provider. The engine calls it from several threads at once."""

    model: Model

    @property
    def limits(self) -> Limits:
        """The current limits of one request; they may be lowered after the server refuses a size."""
        ...

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order; count, order, dimensions and finiteness are checked before it returns.

        Raises ProviderBusy when the same call may succeed later, InputRefused when not. Holds no transaction, no lock.
        """
        ...

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        ...
