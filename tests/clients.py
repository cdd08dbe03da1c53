"""Both clients for one test: `AsyncClient` with its methods called as those of `Client`, by an event loop of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from embedq import AsyncClient, Client
from embedq.settings import Settings

KINDS = ("Client", "AsyncClient")


class Driven:
    """An AsyncClient; each method runs the loop until it is done. Its parts are those of the client that does what needs threads."""

    def __init__(self, settings: Settings, **more: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = AsyncClient(settings, **more)
        self.broker, self.publisher = self.client._client._parts.threaded.broker, self.client._client.publisher

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *args, **more: self.loop.run_until_complete(method(*args, **more))


@contextmanager
def opened(kind: str, settings: Settings, **more: Any) -> Iterator[Any]:
    """A client of this kind, closed afterwards."""
    if kind == "Client":
        with Client(settings, **more) as client:
            yield client
        return
    driven = Driven(settings, **more)
    try:
        yield driven
    finally:
        driven.close()
        driven.loop.close()
