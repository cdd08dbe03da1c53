"""Addresses of databases, brokers, providers and webhooks that hold passwords and print without them.

An `Address` is a string whose text is safe to show: printing, formatting, logging or pickling it reveals no secret. Code that opens a
connection reads `secret`. `hide` masks the credentials of all addresses of this process in messages of drivers and servers, which may quote
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

NOT_UNDERSTOOD: Final = "(an address that cannot be understood)"
MASK: Final = "***"
# As `embedq token create` makes them.
TOKEN: Final = re.compile(r"embedq_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
SHORTEST_MASKED: Final = 4
# Masking these would make every line unreadable and protect nothing.
EVERYDAY: Final = frozenset(
    (
        "admin",
        "application",
        "default",
        "disable",
        "embedq",
        "false",
        "guest",
        "localhost",
        "postgres",
        "postgresql",
        "prefer",
        "public",
        "read-write",
        "redis",
        "require",
        "required",
        "root",
        "true",
        "user",
        "utf8",
        "verify-ca",
        "verify-full",
    )
)
SECRET_KEYS: Final = re.compile(r"pass|pwd|key|token|secret|auth|sig|cred|cert", re.IGNORECASE)

POSTGRES: Final = ("postgresql", "postgres")
# Schemes of brokers of which an address may name several: nodes that hold the same messages, or know where these are.
SEVERAL: Final = ("amqp", "amqps", "pyamqp", "sentinel")
PLACES: Final = ("host", "hostaddr", "port", "service")

_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[\w.%-]*)(?::[0-9]{0,5})?"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*")
_BETWEEN: Final = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_NAME: Final = re.compile(r"/{0,2}[\w.-]{0,63}/?")
_SHORT: Final = re.compile(r"[\w./:,-]{1,120}")
_USUAL_PATH: Final = re.compile(r"(?:/(?:v\d+(?:beta\d*)?|api|openai|ollama|compatible-mode|inference|models|embeddings?))*/?")
BARE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


# Of every Address of this process: the text to mask in messages, and whether it is a secret (True) or a name (False).
_known: Final[dict[str, bool]] = {}


class Address(str):
    """A URL (or several, or libpq's pairs) with its password. As a string it is `shown`; equal to another when the secrets are."""

    def __new__(cls, secret: str = "") -> Address:
        if isinstance(secret, Address):
            return secret
        made = super().__new__(cls, shown(secret))
        made.__dict__["_reveal"] = lambda: secret  # not as a value: vars() would show it
        _known.update(_parts_of(secret))
        return made

    @property
    def secret(self) -> str:
        """The whole address, with user and password; only for opening a connection."""
        revealed: str = self.__dict__["_reveal"]()
        return revealed

    @property
    def shown(self) -> str:
        return str.__str__(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.secret == secret_of(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.secret)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return str, (self.shown,)

    def __copy__(self) -> Address:
        return self

    def __deepcopy__(self, memo: object) -> Address:
        return self


def secret_of(address: str) -> str:
    """The address to connect with, from an Address or a plain string."""
    return address.secret if isinstance(address, Address) else address


def shown(raw: str) -> str:
    """Scheme, hosts, ports and database name, without user, password, query and fragment. Never raises."""
    if isinstance(raw, Address):
        return raw.shown
    if "://" not in raw:
        return _shown_pairs(raw) if raw else ""
    return ";".join(map(_shown_one, _each(raw)))


def _each(raw: str) -> list[str]:
    """The URLs of a list."""
    return _BETWEEN.split(raw)


def _shown_one(raw: str) -> str:
    try:
        parts = understood(raw)
    except ValueError:
        return NOT_UNDERSTOOD
    path = parts.path
    kept = _USUAL_PATH.fullmatch(path) if parts.scheme in ("http", "https") else _NAME.fullmatch(path)
    return f"{parts.scheme}://{place_in(parts)}{path if kept else '/…'}{_where(parts)}"


def _where(parts: SplitResult) -> str:
    """The part of the query that names PostgreSQL's host."""
    if parts.scheme.partition("+")[0] not in POSTGRES:
        return ""
    found = [f"{key}={value}" for key, value in parse_qsl(parts.query) if key in PLACES and _SHORT.fullmatch(value)]
    return "?" + "&".join(found) if found else ""


def place_in(parts: SplitResult) -> str:
    """Hosts and ports of a URL, without user and password."""
    return parts.netloc.rpartition("@")[2]


def _shown_pairs(raw: str) -> str:
    try:
        pairs = pairs_of(raw)
    except ValueError:
        return NOT_UNDERSTOOD
    where = pairs.get("host") or pairs.get("hostaddr")
    place = f"{where or 'local socket'}:{pairs.get('port', 5432)}/{pairs.get('dbname', '')}"
    if "service" in pairs and not where:
        place = f"service {pairs['service']}"
    return place if place.isprintable() and "@" not in place else NOT_UNDERSTOOD


# Understanding


def understood(raw: str) -> SplitResult:
    """The parts of one URL. Raises ValueError if an unencoded character of the password may have been read as a delimiter: then no part of
    the URL is safe to show, and the message contains none."""
    if not raw.isprintable() or any(character.isspace() for character in raw):
        raise ValueError("has blanks or invisible characters")
    try:
        parts = urlsplit(raw)
    except ValueError:
        parts = None
    if parts is None or not parts.scheme:
        raise ValueError("cannot be understood as a URL")
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise ValueError("has an @ or # where none can be: in a password write / ? # @ % as %2F %3F %23 %40 %25")
    if not _HOSTS.fullmatch(place_in(parts)) or not all(is_port(port) for port in _ports(place_in(parts))):
        raise ValueError("has a host or port that cannot be: in a password write : / ? # [ ] @ as %3A %2F %3F %23 %5B %5D %40")
    return parts


def _ports(place: str) -> list[str]:
    return [host.rpartition("]")[2].rpartition(":")[2] for host in place.split(",") if ":" in host.rpartition("]")[2]]


def is_port(port: str) -> bool:
    return not port or 0 < int(port) < 65_536


def pairs_of(raw: str) -> dict[str, Any]:
    """The key-value pairs that libpq reads from PostgreSQL's address, a URL or pairs. Raises ValueError, whose message contains no part of it."""
    from psycopg.conninfo import conninfo_to_dict  # slow to import, and many commands do without a database

    try:
        return conninfo_to_dict(raw)
    except Exception:  # psycopg's own errors quote what they did not understand
        pass
    raise ValueError("cannot be understood by PostgreSQL's library: an option that it does not know, or a % that is not %25")


# Hiding


def _parts_of(secret: str) -> Iterator[tuple[str, bool]]:
    """(text, is it a secret) for each part that messages must not contain. Passwords are secrets, user names are not."""
    for found, is_secret in _credentials(secret):
        for form in _forms(found):
            if len(form) >= SHORTEST_MASKED and form.lower() not in EVERYDAY and not form.isdecimal():
                yield form, is_secret


def _forms(found: str) -> set[str]:
    """The text as given, decoded, and as it is quoted in a URL, in Python's repr and in JSON."""
    used = unquote(found)
    return {found, used, quote(used, safe=""), repr(used)[1:-1], ascii(used)[1:-1], json.dumps(used)[1:-1]}


def _credentials(secret: str) -> Iterator[tuple[str, bool]]:
    if "://" not in secret:
        yield from _credentials_of_pairs(secret)
        return
    for each in _each(secret):
        # Everything up to the last @: an unencoded / ? # in the password makes urlsplit cut the URL in the wrong place.
        yield each.partition("://")[2].rpartition("@")[0].partition(":")[2], True
        try:
            parts = urlsplit(each)
        except ValueError:
            continue
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        yield user, False
        yield password, True
        for key, value in parse_qsl(parts.query):
            yield value, bool(SECRET_KEYS.search(key))


def _credentials_of_pairs(secret: str) -> Iterator[tuple[str, bool]]:
    if not secret:
        return
    try:
        pairs = pairs_of(secret)
    except ValueError:
        return
    for key, value in pairs.items():
        if key not in ("host", "hostaddr", "port", "dbname"):
            yield str(value), bool(SECRET_KEYS.search(key))


def hide(words: str, *, names: bool = False) -> str:
    """Mask the passwords of this process's addresses, and named tokens. `names`: mask the addresses' users and options too, for messages of
    drivers and servers."""
    for value, is_secret in sorted(_known.items(), key=lambda known: -len(known[0])):
        if (is_secret or names) and value in words:
            words = words.replace(value, MASK)
    return TOKEN.sub(MASK, words)
