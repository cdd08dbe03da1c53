"""The addresses of PostgreSQL and the broker: those of the settings, else those of the running embedded servers."""

from __future__ import annotations

from dataclasses import dataclass

from .addresses import Address
from .errors import ConfigError
from .local.servers import Running, running_for
from .settings import Settings, home_of


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of PostgreSQL and the broker."""

    database_url: Address
    broker_url: Address
    embedded: bool


def addresses(settings: Settings) -> Addresses:
    """Raises ConfigError when neither the settings nor running embedded servers say where PostgreSQL is."""
    if settings.database_url and settings.effective_broker_url:
        return Addresses(settings.database_url, settings.effective_broker_url, embedded=False)
    here = running_for(home_of(settings))
    if here is None and not settings.database_url:
        raise ConfigError(
            "DATABASE_URL is not set and no embedded servers are running",
            hint="`embedq up` starts everything on this machine; or set DATABASE_URL and REDIS_URL to servers of your own",
        )
    if here is None:
        return Addresses(settings.database_url, Address("redis://127.0.0.1:6379/0"), embedded=False)
    return Addresses(
        settings.database_url or Address(here.database_url),
        settings.effective_broker_url or Address(here.broker_url),
        not settings.database_url,
    )


def broker_address(settings: Settings) -> Address | None:
    """Where the broker is; None when the settings name none and no embedded servers run."""
    if settings.effective_broker_url:
        return settings.effective_broker_url
    here = running_for(home_of(settings))
    return Address(here.broker_url) if here is not None else None


def embedded_servers(settings: Settings) -> Running | None:
    """The running embedded servers that these settings use, or None."""
    return None if settings.database_url else running_for(home_of(settings))
