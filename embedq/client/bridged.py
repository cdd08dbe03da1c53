"""The connections of `AsyncClient`: code of `Client` that runs below `bridge.bridged` and waits for the event loop (docs/why/async.rst)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from .. import wiring
from ..bridge import Room, in_thread, wait_here
from ..model import Model, Priority, Role
from ..providers import Embedded, Provider, asynchronous
from ..settings import Settings
from ..store import Store
from .client import Client
from .parts import Parts
from .publisher import Publisher

log = logging.getLogger(__name__)


class BridgedParts(Parts):
    """What has no asynchronous form is done by parts of threads: publishing, which has a thread of its own anyway, and the embedding of a
    write in mode `sync`."""

    def __init__(self, settings: Settings, connections: int) -> None:
        super().__init__(settings, connections)
        self.threaded = Parts(settings, connections)
        self._making = Room(1)

    def leave_loop(self) -> None:
        """Close the connections that belong to an event loop that has ended."""
        if self._store is not None:
            self._store.close()
        self._store = self._provider = None
        self._making = Room(1)

    def close(self) -> None:
        try:
            wait_here(in_thread(self.threaded.close))
        except RuntimeError:  # no more threads
            self.threaded.close()
        if self._provider is not None:
            wait_here(asynchronous.close(self._provider))
        if self._store is not None:
            self._store.close()
        self._store = self._provider = None

    @property
    def publisher(self) -> Publisher:
        return self.threaded.publisher

    def make_store(self) -> Store:
        return wiring.async_store(self.settings, size=self.connections)

    def make_provider(self, model: Model, role: Role = Role.QUERY) -> Provider:
        """In a thread, because it may read certificates or load a model: once, for all tasks that need it."""
        with self._making:
            if self._provider is None or self._provider.model != model:
                self._provider = wait_here(in_thread(super().make_provider, model, role))
            return self._provider

    def ask(self, provider: Provider, texts: Sequence[str]) -> Embedded:
        return wait_here(asynchronous.embed(provider, texts))

    def may_publish(self, priority: Priority, tenants: Collection[str], articles: int) -> bool:
        if not self.publisher.is_prepared:
            try:
                wait_here(in_thread(self.publisher.prepare))
            except RuntimeError as refused:  # no more threads
                log.warning("not published, the steward will: %s", refused)
                return False
        return super().may_publish(priority, tenants, articles)

    def embed_now(self, article_ids: Sequence[str]) -> None:
        wait_here(in_thread(self.threaded.embed_now, article_ids))

    def pause(self, seconds: float) -> None:
        wait_here(asyncio.sleep(seconds))

    def apart(self, work: Callable[[], list[int]]) -> list[int]:
        return wait_here(in_thread(work))


class BridgedClient(Client):
    """The client whose methods `AsyncClient` runs below `bridge.bridged`."""

    _parts: BridgedParts

    def _make_parts(self, settings: Settings, connections: int) -> BridgedParts:
        return BridgedParts(settings, connections)

    def leave_loop(self) -> None:
        self._parts.leave_loop()
