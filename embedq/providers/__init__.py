"""Providers: the services that embed. The promise each keeps is here; who keeps it is in the modules beside.

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
    """What one request may hold. Tokens are estimates. `overhead_tokens`: what is added to each text, the prefix; `max_input_tokens` is
    what the text itself may have, without it."""

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
    """How to reach the providers. Times in seconds; `timeout_s` bounds a whole request, from the connection to the end of the answer.

    `headers` are sent with each request. `max_input_tokens`: what the model takes, 0 when it is not known. The key, the headers and passwords
    in addresses are not in its repr. `parameters`: further fields of each request's body.
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
    """What the engine asks of a provider. Implementations may be called from several threads at once."""

    model: Model

    @property
    def limits(self) -> Limits:
        """What one request may hold, as far as is known now; it may become less when the server refuses."""
        ...

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order; count, order, dimensions and finiteness are checked before it returns.

        Raises ProviderBusy when the same call may succeed later, InputRefused when not. Holds no transaction, no lock.
        """
        ...

    def close(self) -> None:
        """Give back connections. Safe to call twice."""
        ...
