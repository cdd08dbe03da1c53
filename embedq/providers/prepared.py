"""A provider that adds the model's prefix to each text (`model.Preparation`), for one of the two roles.

All code that embeds uses `prepared`, so that documents and queries get their prefix in every command and service.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ..errors import ConfigError
from ..model import Model, Role
from . import Embedded, Limits, Provider, ProviderSettings, asynchronous
from .inputs import refuse_unembeddable
from .limits import estimate_tokens

# Built-in providers that cannot send additional fields.
WITHOUT_PARAMETERS: Final = ("hashing", "local", "sentence-transformers")


class PreparedProvider:
    """Delegates to another provider, with `prefix` before each text. `model`: as registered; the inner provider has the server's name of it."""

    def __init__(self, inner: Provider, model: Model, prefix: str) -> None:
        self.inner, self.model, self.prefix = inner, model, prefix
        self._overhead = estimate_tokens(prefix) if prefix else 0

    @property
    def limits(self) -> Limits:
        """The limits for texts without the prefix, whose tokens are subtracted."""
        limits = self.inner.limits
        return replace(
            limits,
            max_input_tokens=max(1, limits.max_input_tokens - self._overhead),
            overhead_tokens=limits.overhead_tokens + self._overhead,
        )

    def embed(self, texts: Sequence[str]) -> Embedded:
        return self.inner.embed(self._prepared(texts))

    async def aembed(self, texts: Sequence[str]) -> Embedded:
        return await asynchronous.embed(self.inner, self._prepared(texts))

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        refuse_unembeddable(texts)  # checked here, because with a prefix a blank text would not be refused
        return [self.prefix + text for text in texts]

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await asynchronous.close(self.inner)


def prepared(
    make: Callable[[Model, ProviderSettings], Provider], model: Model, settings: ProviderSettings, role: Role
) -> Provider:
    """The provider of a model, for texts of this role. Raises ConfigError if it cannot send the model's additional fields."""
    parameters = model.preparation.parameters(role)
    if parameters and model.provider in WITHOUT_PARAMETERS:
        raise ConfigError(
            f"{model} is registered with fields of a request, and the provider {model.provider} sends none",
            hint="register it with prefixes instead: `embedq model add … --prefixes`",
        )
    inner = make(
        replace(model, name=model.asked_as), replace(settings, parameters=json.loads(parameters) if parameters else {})
    )
    prefix = model.preparation.prefix(role)
    return PreparedProvider(inner, model, prefix) if prefix or inner.model != model else inner
