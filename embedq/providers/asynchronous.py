"""Calls a provider from an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from . import Embedded, Provider


@runtime_checkable
class AsyncProvider(Protocol):
    """The additional methods of a provider that can be called without a thread."""

    async def aembed(self, texts: Sequence[str]) -> Embedded:
        """As `Provider.embed`; to be used in one event loop only."""
        ...

    async def aclose(self) -> None:
        """Close the connections of `aembed`. Safe to call twice."""
        ...


async def embed(provider: Provider, texts: Sequence[str]) -> Embedded:
    """Call the provider's `aembed` if it has one, else its `embed` in a thread."""
    if isinstance(provider, AsyncProvider):
        return await provider.aembed(texts)
    from ..bridge import in_thread

    return await in_thread(provider.embed, texts)


async def close(provider: Provider) -> None:
    if isinstance(provider, AsyncProvider):
        await provider.aclose()
    provider.close()
