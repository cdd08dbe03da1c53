"""Stores and brokers at the addresses of the settings; the set-up of a database."""

from __future__ import annotations

from ..broker import Broker, broker_at
from ..endpoints import addresses
from ..model import Model
from ..settings import Settings
from ..store import Store
from ..store.database import Database
from .models import agreed_model


def store(settings: Settings, *, size: int = 2, name: str = "embedq", by_index: bool = False) -> Store:
    """The store for these settings. `size`: connections; `by_index`: its sessions avoid sequential scans. Connects at the first statement."""
    return Store(Database(addresses(settings).database_url, size=size, name=name, by_index=by_index))


def async_store(settings: Settings, *, size: int) -> Store:
    """A store for code that runs below `bridge.bridged`, in one event loop."""
    from ..store.asynchronous import AsyncDatabase

    return Store(AsyncDatabase(addresses(settings).database_url, size=size))


def broker(settings: Settings) -> Broker:
    return broker_at(addresses(settings).broker_url)


def set_up(
    settings: Settings, store: Store, revision: str = "head", first: Model | None = None
) -> tuple[str | None, str | None, Model]:
    """Create or upgrade the schema, and set the first mode and model from the settings. Returns the revisions before and after, and the active model.

    `first`: the model for a database that has none yet, instead of the settings' model.
    """
    from ..store import grants, half_removed, schema

    before, after = schema.upgrade(store.database, revision)
    half_removed.refuse(store.database, "an upgrade does not make it anew")
    if before not in (None, after):
        grants.renew(store.database)
    if before is None:
        store.status.set_mode(settings.mode, "first set up", "embedq", category="set up")
    store.status.first(settings.mode)
    if first is not None and store.models.active() is None:
        store.models.agree(first)
    return before, after, agreed_model(settings, store)
