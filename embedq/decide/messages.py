"""Interprets broker messages from their bytes. Nothing is unpickled.

A message as Redis keeps it: a JSON object with `body` (base64 if `properties.body_encoding` says so, compressed if
`headers.compression` says so), `headers` and `content-type`. An unacknowledged one is kept as `[message, exchange,
routing key]`. Source: kombu's virtual transports; Celery's message protocol, versions 1 and 2.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from .envelope import LONGEST_ETA_S, PROPERTIES, flaw, moment_of

OWN = "embedq.embed"
# Header with the identity of the installation that the task ids belong to. Version 0.1.0 does not write it.
OF = "embedq_installation"
# Largest message that is parsed or decompressed. embedq's largest has 10,000 ids (EMBEDDING_BATCH_SIZE), 0.3 MB.
LARGEST_BYTES = 4 << 20
MOST_IDS = 10_000
LONGEST_ARTICLE_ID = 2000
TOLD = 80
EMBEDDED = ("callbacks", "errbacks", "chain", "chord")


def _bounded(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def decompress(body: bytes) -> bytes:
        stream = make()
        found: bytes = stream.decompress(body, LARGEST_BYTES)
        if not stream.eof:
            raise ValueError("it does not end, or not within the bound")
        return found

    return decompress


DECOMPRESS: dict[Any, Callable[[bytes], bytes]] = {
    "application/x-gzip": _bounded(zlib.decompressobj),
    "application/x-bz2": _bounded(bz2.BZ2Decompressor),
    "application/x-lzma": _bounded(lambda: lzma.LZMADecompressor(memlimit=64 << 20)),
}


@dataclass(frozen=True, slots=True)
class NamesTasks:
    """A message of embedq: tasks to embed. `flaw`: why Celery must not get it, or None."""

    ids: tuple[int, ...]
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class NamesArticles:
    """A message of another program that names articles to embed: the values that may be article ids."""

    task: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A message that cannot be interpreted, with the reason."""

    reason: str


Meaning = NamesTasks | NamesArticles | NotUnderstood


class _Unclear(Exception):
    pass


def understand(raw: bytes) -> Meaning:
    """Interpret a message; never raises. A message that cannot be interpreted has its own result type."""
    try:
        return _meaning(_envelope(raw))
    except _Unclear as why:
        return NotUnderstood(str(why))


def for_celery(raw: bytes, queue: str, tag: str, now: datetime) -> dict[str, Any] | None:
    """The message for Celery, rebuilt from checked fields only; None if Celery must not get it.

    Only for messages of embedq whose fields are all valid and that have an id. `tag`: the new delivery tag.
    """
    meaning, envelope = understand(raw), envelope_of(raw)
    if not isinstance(meaning, NamesTasks) or meaning.flaw or envelope is None:
        return None
    headers = envelope.get("headers") or {}
    if "id" not in headers or "task" not in headers:
        return None
    eta = moment_of(headers["eta"]) if headers.get("eta") else None
    wait_s = (eta - now).total_seconds() if eta else 0.0
    if wait_s > LONGEST_ETA_S:
        return None
    return _made_anew(meaning.ids, headers, queue, tag, eta.isoformat() if eta and wait_s > 0 else None)


def _made_anew(ids: tuple[int, ...], headers: Mapping[str, Any], queue: str, tag: str, eta: str | None) -> dict[str, Any]:
    name, more = headers["id"], ", …" if len(ids) > 10 else ""
    body = json.dumps([[ids], {}, dict.fromkeys(EMBEDDED)])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": OWN,
            "id": name,
            "root_id": name,
            "parent_id": None,
            "group": None,
            "eta": eta,
            "expires": None,
            "retries": headers.get("retries") or 0,
            "timelimit": [None, None],
            "ignore_result": True,
            "origin": "embedq",
            "argsrepr": f"([{', '.join(map(str, ids[:10]))}{more}],)",
            "kwargsrepr": "{}",
            "redelivered": bool(headers.get("redelivered")),
            OF: headers.get(OF),
        },
        "properties": {
            "correlation_id": name,
            "reply_to": "",
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
            "delivery_info": {"exchange": "embedq", "routing_key": queue},
        },
    }


def is_restorable(raw: bytes) -> bool:
    """Whether kombu can requeue this unacknowledged entry of Redis: `[message, exchange, routing key]`, of any program."""
    try:
        found = _json(raw, "it")
    except _Unclear:
        return False
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(name, str) for name in found[1:]):
        return False
    message = found[0]
    if not isinstance(message, dict) or not isinstance(message.get("headers"), dict):
        return False
    properties = message.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_info"), dict):
        return False
    return PROPERTIES["priority"](properties.get("priority")) and b"__type__" not in raw


def envelope_of(raw: bytes) -> Mapping[str, Any] | None:
    """The message as a JSON object, or None."""
    try:
        return _envelope(raw)
    except _Unclear:
        return None


def escaped(value: str | bytes) -> str:
    """Untrusted text made safe to display: printable ASCII, everything else as Python escapes."""
    known = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    return "".join(each if each.isascii() and each.isprintable() else ascii(each)[1:-1] for each in known)


def _envelope(raw: bytes) -> Mapping[str, Any]:
    found = _json(raw, "the message")
    if isinstance(found, list) and len(found) == 3:
        found = found[0]
    if not isinstance(found, dict):
        raise _Unclear("the message is no JSON object")
    if "unreadable" in found:
        raise _Unclear("its AMQP properties cannot be read")
    return found


def _json(raw: bytes | str, what: str) -> Any:
    if len(raw) > LARGEST_BYTES:
        raise _Unclear(f"{what} is larger than {LARGEST_BYTES >> 20} MB")
    try:
        return json.loads(raw.decode() if isinstance(raw, bytes) else raw)
    except (ValueError, RecursionError):
        raise _Unclear(f"{what} is not JSON") from None


ARTICLE_KEYS = ("article_id", "articleId", "node_id", "nodeId")


def _of_a_plain_list(found: Mapping[str, Any]) -> Meaning | None:
    """A message of a program without Celery, from a Redis list: a JSON object that names its article, at the top level or below `data` or
    `payload`."""
    if "body" in found or "headers" in found:
        return None
    places = [found, *(found[name] for name in ("data", "payload") if isinstance(found.get(name), dict))]
    values = [place[key] for place in places for key in ARTICLE_KEYS if key in place]
    named = tuple(dict.fromkeys(islice(_candidates(values), MOST_IDS)))
    return NamesArticles("a list's entry", named) if named else None


def _meaning(envelope: Mapping[str, Any]) -> Meaning:
    if (plain := _of_a_plain_list(envelope)) is not None:
        return plain
    headers = envelope.get("headers")
    headers = headers if isinstance(headers, dict) else {}
    content = _json(_body(envelope, headers), "the body")
    embedded: Any = None
    if isinstance(content, dict) and isinstance(content.get("task"), str):
        name, args, kwargs = content["task"], content.get("args"), content.get("kwargs")
    elif isinstance(content, list) and len(content) == 3 and isinstance(headers.get("task"), str):
        name, (args, kwargs, embedded) = headers["task"], content
    else:
        raise _Unclear("the message names no task")
    if name == OWN:
        return _ours(args, kwargs, flaw(envelope) or _flaw_of_body(args, kwargs, embedded))
    return _foreign(name, args if isinstance(args, list) else [], kwargs if isinstance(kwargs, dict) else {})


def _body(envelope: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes | str:
    kind = envelope.get("content-type", "application/json")
    if kind != "application/json":
        raise _Unclear(f"the body is {_told(kind)}, not JSON")
    body = envelope.get("body")
    if not isinstance(body, str):
        raise _Unclear("the message has no body")
    properties = envelope.get("properties")
    if not isinstance(properties, dict) or properties.get("body_encoding") != "base64":
        return body
    return _decompressed(_plain(body), headers.get("compression"))


def _plain(body: str) -> bytes:
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except ValueError:
        raise _Unclear("the body is not base64") from None


def _decompressed(body: bytes, compression: Any) -> bytes:
    if not compression:
        return body
    if not isinstance(compression, str) or compression not in DECOMPRESS:
        raise _Unclear(f"the body is compressed by {_told(compression)}")
    try:
        return DECOMPRESS[compression](body)
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError):
        raise _Unclear("the body cannot be decompressed") from None


def _ours(args: Any, kwargs: Any, flaw: str | None) -> Meaning:
    ids = args[0] if isinstance(args, list) and args else kwargs.get("task_ids") if isinstance(kwargs, dict) else None
    if not isinstance(ids, list) or not ids or not all(type(each) is int and 0 < each < 2**63 for each in ids):
        return NotUnderstood("it names no task ids")
    if len(ids) > MOST_IDS:
        return NotUnderstood(f"it names more than {MOST_IDS:,} tasks")
    return NamesTasks(tuple(ids), flaw or "")


def _flaw_of_body(args: Any, kwargs: Any, embedded: Any) -> str | None:
    by_position = isinstance(args, list) and len(args) == 1 and not kwargs
    by_name = not args and isinstance(kwargs, dict) and kwargs.keys() == {"task_ids"}
    if not (by_position or by_name):
        return "its arguments are more than a list of task ids"
    if embedded and not (isinstance(embedded, dict) and embedded.keys() <= set(EMBEDDED) and not any(embedded.values())):
        return "its body wants more than to be embedded (callbacks, a chain, a chord)"
    return None


def _foreign(name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Meaning:
    if "embed" in name.lower():
        values = [*args, *(value for key, value in kwargs.items() if "id" in key.lower())]
        found = tuple(dict.fromkeys(islice(_candidates(values), MOST_IDS)))
        return NamesArticles(name, found) if found else NotUnderstood(f"{_told(name)} names no article")
    return NotUnderstood(f"the task {_told(name)} is not ours")


def _candidates(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        for each in value if isinstance(value, list) else [value]:
            candidate = str(each).replace("\x00", "") if isinstance(each, str) or type(each) is int else ""
            if candidate and len(candidate) <= LONGEST_ARTICLE_ID and not any("\ud800" <= one <= "\udfff" for one in candidate):
                yield candidate


def _told(value: object) -> str:
    return escaped(str(value)[:TOLD]) if isinstance(value, str | int | float | None) else type(value).__name__
