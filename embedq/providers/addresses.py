"""Checks addresses of providers from the settings."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import ConfigError


def refuse_bad_address(setting: str, address: str) -> None:
    """Raise ConfigError unless the address is http(s) with a host and a valid port. The message does not contain it, because it may hold a
    password."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in address):
        raise unusable(setting)


def unusable(setting: str) -> ConfigError:
    return ConfigError(f"{setting} is not an http address", hint=f"set {setting} like http://127.0.0.1:11434")
