"""Asking a provider from an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from . import Embedded, Provider


@runtime_checkable
class AsyncProvider(Protocol):
    """What a provider has besides, when it can be asked without a thread."""

    async def aembed(self, texts: Sequence[str]) -> Embedded:
        """As `Provider.embed`. Awaited in one event loop only."""
        ...

    async def aclose(self) -> None:
        """Give back the connections of `aembed`. Safe to call twice."""
        ...


async def embed(provider: Provider, texts: Sequence[str]) -> Embedded:
    """By the provider's own `aembed`, else by its `embed` in a thread."""
    if isinstance(provider, AsyncProvider):
        return await provider.aembed(texts)
    from ..bridge import in_thread

    return await in_thread(provider.embed, texts)


async def close(provider: Provider) -> None:
    if isinstance(provider, AsyncProvider):
        await provider.aclose()
    provider.close()
