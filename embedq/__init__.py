"""embedq keeps the vector embeddings of articles in PostgreSQL up to date, and goes back from anything that goes wrong.

from embedq import Client
with Client() as embedq:
    embedq.create("Tea", "How to brew it")
    embedq.search("hot drinks", k=3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .client.async_client import AsyncClient
    from .client.client import Client
    from .errors import EmbedqError
    from .model import ArticleDraft, Mode, Priority
    from .settings import Settings

__all__ = ["ArticleDraft", "AsyncClient", "Client", "EmbedqError", "Mode", "Priority", "Settings", "__version__"]

# `celery -A embedq` looks for `app`; the rest is imported when first used, so that the command line starts at once.
_HOMES = {
    "AsyncClient": "client.async_client",
    "Client": "client.client",
    "EmbedqError": "errors",
    "ArticleDraft": "model",
    "Mode": "model",
    "Priority": "model",
    "Settings": "settings",
    "app": "celery_app",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'embedq' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
