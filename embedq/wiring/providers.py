"""Providers with their rate limits, as the settings describe them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..decide.arguments import headers_of
from ..decide.budget import Rates
from ..decide.prices import number_for
from ..engine.instrumented import measured
from ..model import Model, Role
from ..settings import Settings
from ..store import Store
from ..store.rate_limit import Budget

if TYPE_CHECKING:
    from ..providers import Provider


def budget(settings: Settings, store: Store, model: Model) -> Budget | None:
    """The rate limit of the model's provider; None when the settings set none."""
    rates = Rates(int(number_for(settings.requests_per_minute, model)), int(number_for(settings.tokens_per_minute, model)))
    return Budget(store.database, model.provider, rates) if rates else None


def provider_factory(settings: Settings, role: Role = Role.DOCUMENT) -> Callable[[Model], Provider]:
    """Returns a function that makes the provider of a model for stored texts or for queries, because their prefixes may differ."""
    from ..providers import ProviderSettings
    from ..providers.prepared import prepared
    from ..providers.registry import make

    ours = ProviderSettings(
        openai_api_key=settings.openai_api_key or None,
        openai_base_url=settings.openai_base_url.secret or None,
        ollama_base_url=settings.ollama_base_url.secret,
        openai_organization=settings.openai_organization or None,
        openai_project=settings.openai_project or None,
        timeout_s=settings.provider_timeout_s,
        headers=headers_of(settings.provider_headers),
    )
    return measured(
        lambda model: prepared(
            make, model, replace(ours, max_input_tokens=int(number_for(settings.max_input_tokens, model))), role
        )
    )


def server_of(settings: Settings, model: Model) -> str:
    """Host and port that this process sends the model's requests to (the rest of the address may hold a secret); empty for providers
    without a server."""
    from ..providers.openai import OPENAI_URL

    addresses = {"openai": settings.openai_base_url.secret or OPENAI_URL, "ollama": settings.ollama_base_url.secret}
    named = addresses.get(model.provider)
    if named is None:
        return ""
    parts = urlsplit(named)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def asks(settings: Settings, model: Model) -> str:
    """Host, port and fingerprint of the key that this process uses for the model, for its heartbeat."""
    from ..providers.secrets import fingerprint

    server = server_of(settings, model)
    if not server:
        return "no server"
    key = settings.openai_api_key if model.provider == "openai" else ""
    return f"{server}, key {fingerprint(server, key, settings.provider_headers) or 'none'}"
