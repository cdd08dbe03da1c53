"""Addresses of PostgreSQL, of a broker, of an HTTP server, checked as the settings take them."""

from __future__ import annotations

from urllib.parse import parse_qsl

from .addresses import BARE_PERCENT, POSTGRES, SEVERAL, Address, is_port, pairs_of, place_in, understood


def plain(raw: str) -> str:
    """PostgreSQL's address as libpq takes it: the driver that SQLAlchemy adds to the scheme (postgresql+psycopg://) is removed."""
    scheme, mark, rest = raw.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}" if mark else raw


def primary_of_several(raw: str) -> dict[str, str]:
    """The connection option that selects the writable host of a list of hosts; none for one host, or where the address, libpq's environment
    or a service sets its own."""
    from psycopg.pq import Conninfo

    try:
        given = pairs_of(plain(raw))
    except ValueError:
        return {}
    usual = {each.keyword.decode(): (each.val or b"").decode() for each in Conninfo.get_defaults()}
    hosts = str(given.get("host") or given.get("hostaddr") or usual.get("host") or usual.get("hostaddr") or "")
    told = "service" in given or "target_session_attrs" in given or usual.get("target_session_attrs") not in ("", "any")
    return {"target_session_attrs": "read-write"} if "," in hosts and not told else {}


def of_postgres(raw: str) -> Address:
    """Check an address of PostgreSQL; SQLAlchemy's postgresql+psycopg:// is accepted. Raises ValueError, whose message contains no part of
    the address."""
    scheme, mark, _ = raw.partition("://")
    if (scheme.partition("+")[0] not in POSTGRES) if mark else "=" not in raw:
        raise ValueError("must be a URL that begins with postgresql:// or postgres://, or pairs like host=… dbname=…")
    if mark:
        parts = understood(raw)
        if parts.netloc.count("@") > 1 or BARE_PERCENT.search(raw):
            raise ValueError("has an @ or % that stands for itself: in a user or password write them as %40 %25")
    pairs = pairs_of(plain(raw))
    if not all(port.isdecimal() and is_port(port) for port in str(pairs.get("port", "5432")).split(",") if port):
        raise ValueError("has a port that cannot be")
    return Address(raw)


def of_broker(raw: str, schemes: tuple[str, ...]) -> Address:
    """Check an address of a broker: one URL, or several with ; between them. Raises ValueError, whose message contains no part of the address."""
    named = [each.partition("://")[0] for each in raw.split(";")]
    for each in raw.split(";"):
        if each.partition("://")[0] not in schemes or "://" not in each:
            raise ValueError(
                f"must be a URL that begins with {' or '.join(s + '://' for s in schemes)} (several: with ; between them)"
            )
        if "," in place_in(understood(each)):
            raise ValueError("has several hosts in one URL: write a URL for each, with ; between them")
    _of_several(named)
    if named[0] == "sentinel" and not any("master_name" in dict(parse_qsl(understood(each).query)) for each in raw.split(";")):
        raise ValueError(
            "names Sentinels and no master: add ?master_name=NAME, as `sentinel monitor NAME …` has it (their own password: &sentinel_password=)"
        )
    return Address(raw)


def _of_several(schemes: list[str]) -> None:
    if len(set(schemes)) > 1:
        raise ValueError(
            "has URLs of different kinds: a list names the nodes of one RabbitMQ cluster, or Sentinels of one master"
        )
    if len(schemes) > 1 and schemes[0] not in SEVERAL:
        raise ValueError(
            "names several Redis servers: they would hold different messages; name one, or its Sentinels (sentinel://…)"
        )


def of_http(raw: str) -> Address:
    """Check an address of an HTTP server. Raises ValueError, whose message contains no part of the address."""
    if not raw.startswith(("http://", "https://")):
        raise ValueError("must be a URL that begins with http:// or https://")
    place = place_in(understood(raw))
    if not place or place.startswith(":") or "," in place:
        raise ValueError("must have one host")
    return Address(raw)
