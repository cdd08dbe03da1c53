"""Where the service may listen, and from where a request comes; without tokens the service stays on loopback."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..settings import Settings

LOCAL_NAMES = ("localhost", "testserver")


def is_loopback(host: str) -> bool:
    name = host.strip("[]").lower()
    if name in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_address(settings: Settings, host: str) -> str | None:
    """A warning about an address before the service listens on it, or None.

    Raises ConfigError if other hosts could reach a service without tokens.
    """
    missing = [
        name for name, token in (("AUTH_TOKEN", settings.auth_token), ("ADMIN_TOKEN", settings.admin_token)) if not token
    ]
    if not missing:
        return None
    if not is_loopback(host):
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set, and {host} can be reached by others",
            hint="set both to long random texts (`python -c 'import secrets; print(secrets.token_urlsafe(32))'`), or listen on 127.0.0.1",
        )
    if len(missing) == 2:
        return "AUTH_TOKEN and ADMIN_TOKEN are not set: any user of this machine may do everything"
    return f"{missing[0]} is not set: what it opens stays closed"


def peer_of(host: str | None) -> str:
    """The client's address as a key for counting; for IPv6 its /64 network, which usually belongs to one client."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends this for another site's page (CSRF). Programs send neither header."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def host_is_local(headers: Mapping[str, str]) -> bool:
    """Against DNS rebinding, while no token is needed: the Host header must name this machine."""
    return is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")
