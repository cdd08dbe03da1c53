"""The HTTP proxy for a provider, from the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in upper or lower case.

NO_PROXY lists host names (subdomains included, also written `.internal`), with or without a port, IP addresses, networks (`10.0.0.0/8`), or
is `*`. Source: the Python documentation of urllib.request; networks as curl understands them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ..errors import ConfigError


def proxy_for(url: httpx.URL, certificates: Callable[[], Any]) -> httpcore.Proxy | None:
    """The proxy for a server; None: direct connection. Raises ConfigError for an invalid proxy; the message contains no password."""
    named = getproxies()
    address = named.get(url.scheme) or named.get("all")
    if not address or _is_excepted(url, named.get("no", "")):
        return None
    proxy = _parsed(address)
    if proxy is None or not proxy.url.host:
        raise ConfigError(
            "the proxy that the environment names cannot be used",
            hint="correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY (http://host:port), or name the server in NO_PROXY",
        )
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(
            "the environment names a SOCKS proxy", hint="pip install 'embedq[socks]', or name the server in NO_PROXY"
        )
    target = httpcore.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=_port(proxy.url), target=b"/")
    return httpcore.Proxy(target, auth=proxy.raw_auth, ssl_context=certificates() if proxy.url.scheme == "https" else None)


def _parsed(address: str) -> httpx.Proxy | None:
    # Desktop environments write `socks://`.
    address = address if "://" in address else f"http://{address}"
    address = address.replace("socks://", "socks5://", 1) if address.startswith("socks://") else address
    try:
        return httpx.Proxy(address)
    except (httpx.InvalidURL, ValueError):
        return None


def _port(url: httpx.URL) -> int | None:
    return url.port or (1080 if url.scheme.startswith("socks") else None)


def _is_excepted(url: httpx.URL, excepted: str) -> bool:
    port = url.port or (443 if url.scheme == "https" else 80)
    return proxy_bypass(f"{url.host}:{port}") or proxy_bypass(url.host) or _is_in_a_network(url.host, excepted)


def _is_in_a_network(host: str, excepted: str) -> bool:
    """Whether the host is an IP address that is listed or lies in a listed network."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in map(_network, excepted.split(",")) if network is not None)


def _network(written: str) -> Any:
    try:
        return ip_network(written.strip().strip("[]"), strict=False)
    except ValueError:
        return None
