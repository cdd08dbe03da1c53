"""The connections of a client: store, broker, publisher and providers, each made when first needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING
from weakref import WeakSet

from .. import wiring
from ..decide.modes import Decision, LiveState, decide
from ..decide.preparation import wants_the_same
from ..forks import in_each_child
from ..model import Priority, Role
from ..settings import Settings
from ..telemetry import tracing
from .embedding_on_write import EmbeddingOnWrite
from .publisher import Publisher

if TYPE_CHECKING:
    from ..broker import Broker
    from ..model import Model
    from ..providers import Embedded, Provider
    from ..store import Store

_all: WeakSet[Parts] = WeakSet()


class Parts:
    """Those of `Client`, which block the calling thread. `BridgedParts` are those of `AsyncClient`."""

    def __init__(self, settings: Settings, connections: int) -> None:
        self.settings, self.connections = settings, connections
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._broker: Broker | None = None
        self._provider: Provider | None = None  # for queries
        self._for_texts: Provider | None = None  # for texts, where the model wants another prefix before them
        self._publisher: Publisher | None = None
        self._embedding = EmbeddingOnWrite(self)
        _all.add(self)

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self.make_store()
        return self._store

    def make_store(self) -> Store:
        return wiring.store(self.settings, size=self.connections)

    @property
    def broker(self) -> Broker:
        if self._broker is None:
            self._broker = wiring.broker(self.settings)
        return self._broker

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            with self._lock:
                if self._publisher is None:
                    its_store = wiring.store(self.settings, size=1, name="embedq publisher", by_index=True)
                    its_store.database.lock_timeout_s = self.store.database.lock_timeout_s
                    self._publisher = Publisher(its_store, lambda: self.broker, self.settings)
        return self._publisher

    @property
    def provider(self) -> Provider:
        """The active model's provider, for queries; made anew when another model was activated."""
        active = self.store.models.active() or wiring.agreed_model(self.settings, self.store)
        if self._provider is None or self._provider.model != active:
            self._provider = self.make_provider(active)
        return self._provider

    @property
    def provider_for_texts(self) -> Provider:
        """The active model's provider, for texts that are stored."""
        asking = self.provider
        if wants_the_same(asking.model.preparation):
            return asking
        with self._lock:
            if self._for_texts is None or self._for_texts.model != asking.model:
                self._for_texts = self.make_provider(asking.model, Role.DOCUMENT)
            return self._for_texts

    def make_provider(self, model: Model, role: Role = Role.QUERY) -> Provider:
        return tracing.traced(wiring.provider_factory(self.settings, role)(model))

    def decision(self) -> Decision:
        """What this process does about embedding now, and who decided it."""
        return self.decision_of(self.store.status.live())

    def decision_of(self, live: LiveState) -> Decision:
        return decide(live, self.settings.switches)

    def close(self) -> None:
        """Publish what waits to be published, then close every connection."""
        for part in (self._publisher, self._provider, self._for_texts, self._broker, self._store):
            if part is not None:
                part.close()
        self._publisher = self._provider = self._for_texts = self._broker = self._store = None
        self._embedding.forget_server()

    def begin_anew(self) -> object:
        """Called in the child of a fork. Returns what belongs to the parent; the child makes its own parts when it first needs them."""
        if self._publisher is not None:
            self._publisher.forget()
        inherited = (self._publisher, self._provider, self._for_texts, self._broker, self._store)
        self._publisher = self._provider = self._for_texts = self._broker = self._store = None
        self._lock, self._embedding = threading.RLock(), EmbeddingOnWrite(self)
        return inherited

    # What waits, and waits in another way below an event loop ----------------------------------------------------------------------

    def ask(self, provider: Provider, texts: Sequence[str]) -> Embedded:
        return provider.embed(texts)

    def may_publish(self, priority: Priority, tenants: Collection[str], articles: int) -> bool:
        return self.publisher.may_publish(priority, tenants, articles)

    def embed_now(self, article_ids: Sequence[str]) -> None:
        """Mode `sync`: embed what was just saved. A failure is logged, not raised: the articles are saved."""
        self._embedding.embed(article_ids)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def apart(self, work: Callable[[], list[int]]) -> list[int]:
        """Do work that may last and that knows no event loop."""
        return work()


in_each_child(lambda: [parts.begin_anew() for parts in list(_all)])
