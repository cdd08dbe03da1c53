"""A broker's address in the forms of Celery and of redis-py, so that all connections interpret it in the same way.

In addition to what both accept: `unix://` and `redis+socket://` mean the same, Sentinel's master and passwords are in the query, TLS
certificates are verified unless the address says otherwise.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

SENTINELS_OWN: Final = ("sentinel_username", "sentinel_password")
# As redis-py and Celery spell them; RabbitMQ's own spelling (its URI query parameters) means the same.
TLS: Final = {
    "ssl_ca_certs": "ca_certs",
    "cacertfile": "ca_certs",
    "ssl_certfile": "certfile",
    "certfile": "certfile",
    "ssl_keyfile": "keyfile",
    "keyfile": "keyfile",
    "ssl_cert_reqs": "cert_reqs",
    "verify": "cert_reqs",
    "ssl_check_hostname": "check_hostname",
    "server_name_indication": "server_hostname",
}
VERIFY: Final = {
    "none": ssl.CERT_NONE,
    "cert_none": ssl.CERT_NONE,
    "verify_none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "cert_optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
    "cert_required": ssl.CERT_REQUIRED,
    "verify_peer": ssl.CERT_REQUIRED,
}
PORTS: Final = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "sentinel": 26379}
REACH_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """`url`: as kombu takes it. `options`: of Celery's broker_transport_options. `tls`: Celery's broker_use_ssl."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] | None = None


def is_redis(url: str) -> bool:
    """Whether this is an address of Redis; if not, it is one of RabbitMQ."""
    return urlsplit(url.partition(";")[0]).scheme.split("+")[0] in ("redis", "rediss", "unix", "sentinel")


def place_of(url: str) -> Place:
    each = [urlsplit(one) for one in url.split(";")]
    query = _query(each)
    match each[0].scheme:
        case "sentinel":
            own = _sentinels_own(query)
            options = {"master_name": query.get("master_name", ""), **({"sentinel_kwargs": own} if own else {})}
            return Place(";".join(map(_bare, each)), options, _of_redis(query) if _names_tls(query) else None)
        case "unix" | "redis+socket":
            return Place(_socket_of(each[0], "redis+socket", "virtual_host"))
        case "rediss":
            return Place(_bare(each[0]), tls=_of_redis(query))
        case "amqps":
            return Place(";".join(map(_bare, each)), tls=_of_rabbitmq(query, each[0].hostname))
        case _:
            return Place(url)


def redis_client(url: str, **options: Any) -> Any:
    """A redis-py client; where the address names Sentinels, of their master. `options`: time-outs."""
    import redis

    each = [urlsplit(one) for one in url.split(";")]
    match each[0].scheme:
        case "sentinel":
            return _master(each, options)
        case "unix" | "redis+socket":
            return redis.Redis.from_url(_socket_of(each[0], "unix", "db"), **options)
        case _:
            return redis.Redis.from_url(url, **options)


def _master(each: list[SplitResult], options: dict[str, Any]) -> Any:
    from redis.sentinel import Sentinel

    query, first = _query(each), each[0]
    tls = {"ssl": True, **_of_redis(query)} if _names_tls(query) else {}
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    sentinels = [(one.hostname or "127.0.0.1", one.port or PORTS["sentinel"]) for one in each]
    found = Sentinel(sentinels, sentinel_kwargs={**timeouts, **_sentinels_own(query)}, **options, **tls)  # type: ignore[no-untyped-call]
    named = {"username": first.username, "password": first.password}
    its = {name: unquote(value) for name, value in named.items() if value}
    return found.master_for(query.get("master_name", ""), db=int(first.path.strip("/") or 0), **its)  # type: ignore[no-untyped-call]


def nearest(url: str) -> str:
    """Of a list of RabbitMQ's nodes the first that accepts a connection now; the first of all when none does."""
    each = url.split(";")
    if len(each) == 1 or urlsplit(url).scheme == "sentinel":
        return url
    return next((one for one in each if _accepts(urlsplit(one))), each[0])


def _accepts(parts: SplitResult) -> bool:
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or PORTS[parts.scheme]), timeout=REACH_S).close()
    except OSError:
        return False
    return True


def _query(each: list[SplitResult]) -> dict[str, str]:
    return {name: value for one in each for name, value in parse_qsl(one.query)}


def _bare(parts: SplitResult) -> str:
    """Without the options that are passed separately."""
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in (*TLS, *SENTINELS_OWN, "master_name")]
    return parts._replace(query=urlencode(kept)).geturl()


def _socket_of(parts: SplitResult, scheme: str, number: str) -> str:
    """With the database number under the parameter name that this library expects."""
    query = dict(parse_qsl(parts.query))
    chosen = query.pop("db", query.pop("virtual_host", "0"))
    user = f"{parts.netloc}" if parts.netloc else ""
    return f"{scheme}://{user}{parts.path}?{urlencode({number: chosen, **query})}"


def _sentinels_own(query: Mapping[str, str]) -> dict[str, str]:
    """User and password of the Sentinels themselves."""
    return {name.removeprefix("sentinel_"): query[name] for name in SENTINELS_OWN if query.get(name)}


def _names_tls(query: Mapping[str, str]) -> bool:
    return any(name in TLS for name in query)


def _tls(query: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {TLS[name]: value for name, value in query.items() if name in TLS}
    found["cert_reqs"] = VERIFY.get(str(found.get("cert_reqs", "required")).lower(), ssl.CERT_REQUIRED)
    if "check_hostname" in found:
        found["check_hostname"] = found["check_hostname"].lower() not in ("false", "0", "no")
    return found


def _of_redis(query: Mapping[str, str]) -> dict[str, Any]:
    found = _tls(query)
    found.pop("server_hostname", None)
    if found["cert_reqs"] == ssl.CERT_NONE:
        found.setdefault("check_hostname", False)
    return {f"ssl_{name}": value for name, value in found.items()}


def _of_rabbitmq(query: Mapping[str, str], host: str | None) -> dict[str, Any]:
    found = _tls(query)
    if found.pop("check_hostname", True) and found["cert_reqs"] != ssl.CERT_NONE:
        found.setdefault("server_hostname", host)  # py-amqp only checks a name that it is given
    return found
