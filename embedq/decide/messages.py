"""What a broker message means to us, from its bytes alone. Nothing is ever unpickled.

A message as Redis keeps it: a JSON object with `body` (base64 if `properties.body_encoding` says so, compressed if
`headers.compression` says so), `headers` and `content-type`. An unacknowledged one is kept as `[message, exchange,
routing key]`. Source: kombu's virtual transports; Celery's message protocol, versions 1 and 2.
"""

from __future__ import annotations

import binascii
import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OWN = "embedq.embed"
DECOMPRESS: dict[Any, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.decompress,
    "application/x-bz2": bz2.decompress,
    "application/x-lzma": lzma.decompress,
}


@dataclass(frozen=True, slots=True)
class NamesTasks:
    """One of ours: tasks to be embedded."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NamesArticles:
    """Another program's wish to embed something: what in it may be the id of an article."""

    task: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    reason: str


Meaning = NamesTasks | NamesArticles | NotUnderstood


class _Unclear(Exception):
    pass


def understand(raw: bytes) -> Meaning:
    """Never raises: what cannot be understood is an answer too."""
    try:
        return _meaning(_envelope(raw))
    except _Unclear as why:
        return NotUnderstood(str(why))


def is_for_celery(raw: bytes) -> bool:
    """Whether Celery's worker can take it: one of ours, with the headers that Celery relies on."""
    if not isinstance(understand(raw), NamesTasks):
        return False
    headers = (envelope_of(raw) or {}).get("headers")
    return isinstance(headers, dict) and isinstance(headers.get("id"), str) and isinstance(headers.get("task"), str)


def envelope_of(raw: bytes) -> Mapping[str, Any] | None:
    """The message as a JSON object, or None."""
    try:
        return _envelope(raw)
    except _Unclear:
        return None


def _envelope(raw: bytes) -> Mapping[str, Any]:
    found = _json(raw, "the message")
    if isinstance(found, list) and len(found) == 3:
        found = found[0]
    if not isinstance(found, dict):
        raise _Unclear("the message is no JSON object")
    return found


def _json(raw: bytes | str, what: str) -> Any:
    try:
        return json.loads(raw.decode() if isinstance(raw, bytes) else raw)
    except (ValueError, RecursionError):
        raise _Unclear(f"{what} is not JSON") from None


def _meaning(envelope: Mapping[str, Any]) -> Meaning:
    headers = envelope.get("headers")
    headers = headers if isinstance(headers, dict) else {}
    content = _json(_body(envelope, headers), "the body")
    if isinstance(content, dict) and isinstance(content.get("task"), str):
        name, args, kwargs = content["task"], content.get("args"), content.get("kwargs")
    elif isinstance(content, list) and len(content) == 3 and isinstance(headers.get("task"), str):
        name, (args, kwargs, _) = headers["task"], content
    else:
        raise _Unclear("the message names no task")
    return _named(name, args if isinstance(args, list) else [], kwargs if isinstance(kwargs, dict) else {})


def _body(envelope: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes | str:
    kind = envelope.get("content-type", "application/json")
    if kind != "application/json":
        raise _Unclear(f"the body is {str(kind)[:80]}, not JSON")
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
    if compression not in DECOMPRESS:
        raise _Unclear(f"the body is compressed by {str(compression)[:80]}")
    try:
        return DECOMPRESS[compression](body)
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError):
        raise _Unclear("the body cannot be decompressed") from None


def _named(name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Meaning:
    if name == OWN:
        ids = args[0] if args else kwargs.get("task_ids")
        if isinstance(ids, list) and ids and all(type(each) is int and 0 < each < 2**63 for each in ids):
            return NamesTasks(tuple(ids))
        return NotUnderstood("it names no task ids")
    if "embed" in name.lower():
        found = tuple(dict.fromkeys(_candidates([*args, *(value for key, value in kwargs.items() if "id" in key.lower())])))
        return NamesArticles(name, found) if found else NotUnderstood(f"{name[:80]} names no article")
    return NotUnderstood(f"the task {name[:80]} is not ours")


def _candidates(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str) or type(value) is int:
            yield str(value).replace("\x00", "")
        elif isinstance(value, list):
            yield from (str(each).replace("\x00", "") for each in value if isinstance(each, str) or type(each) is int)
