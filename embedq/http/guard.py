"""Who may ask for what (SPEC H3). Two tokens, two areas; without tokens the service stays on loopback."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..settings import Settings

LOCAL_NAMES = ("localhost", "testserver")


class Area(StrEnum):
    """What a token opens; the value is the setting that holds it."""

    ARTICLES = "AUTH_TOKEN"
    ADMIN = "ADMIN_TOKEN"


@dataclass(frozen=True, slots=True)
class Guard:
    """`everything_open`: neither token is set, which is allowed on loopback only. With one of them set, an area whose own
    token is missing is closed: behind a proxy on this machine everybody comes from loopback."""

    tokens: Mapping[Area, str]

    @property
    def everything_open(self) -> bool:
        return not any(self.tokens.values())

    def admits(self, area: Area, token: str | None) -> bool:
        """Compared in constant time. Without any token set, everybody is admitted."""
        if self.everything_open:
            return True
        wanted = self.tokens.get(area, "")
        return bool(wanted) and hmac.compare_digest(wanted.encode(), (token or "").encode())

    def closed(self, area: Area) -> bool:
        return not self.everything_open and not self.tokens.get(area)


def guard_of(settings: Settings) -> Guard:
    return Guard({Area.ARTICLES: settings.auth_token, Area.ADMIN: settings.admin_token})


def is_loopback(host: str) -> bool:
    name = host.strip("[]").lower()
    if name in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_address(settings: Settings, host: str) -> str | None:
    """What to say about an address before the service listens on it; None when there is nothing to say.

    Raises ConfigError when others could reach a service that asks nobody for a token.
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
        return "AUTH_TOKEN and ADMIN_TOKEN are not set: everybody on this machine may do everything"
    return f"{missing[0]} is not set: what it opens stays closed"


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends this for another site's page (CSRF). Programs send neither header."""
    if headers.get("sec-fetch-site", "") == "cross-site":
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def host_is_local(headers: Mapping[str, str]) -> bool:
    """Against DNS rebinding, while nobody is asked for a token: the name that the browser used must be this machine's."""
    return is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")
