"""Addresses of providers, as they stand in the settings."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import ConfigError


def refuse_bad_address(setting: str, address: str) -> None:
    """Raise ConfigError unless it is http(s) with a host and a possible port. Not repeated there: it may hold a password."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in address):
        raise unusable(setting)


def unusable(setting: str) -> ConfigError:
    return ConfigError(f"{setting} is not an http address", hint=f"set {setting} like http://127.0.0.1:11434")
