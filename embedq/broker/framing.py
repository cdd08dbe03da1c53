"""Handles AMQP frames that py-amqp cannot decode: text that is not UTF-8, a date after the year 9999, a table nested too deep.

RabbitMQ delivers such frames. py-amqp raises in the loop that reads the connection, which ends a Celery worker; a restarted worker
receives the same message. Decoded here, the message has no properties, and is stored as rejected.
"""

from __future__ import annotations

import logging
from typing import Any

import amqp
from amqp import method_framing
from kombu.transport import pyamqp

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"
DELIVER, GET_OK = (60, 60), (60, 71)


class Message(amqp.Message):  # type: ignore[misc]
    def _load_properties(self, class_id: int, buf: Any, offset: int) -> Any:
        try:
            return super()._load_properties(class_id, buf, offset)
        except Exception as odd:
            log.debug("the properties of a message cannot be read: %s", odd)
            self.properties = {UNREADABLE: bytes(buf[offset:])}
            return len(buf)


class Sealed(pyamqp.Message):
    """Returns the body unchanged: kombu would decompress a body of any size before it is checked."""

    def __init__(self, msg: Any, channel: Any = None, **options: Any) -> None:
        headers = msg.properties.pop("application_headers", None)
        super().__init__(msg, channel=channel, **options)  # type: ignore[no-untyped-call]
        if headers is not None:
            self.properties["application_headers"] = headers
        self.headers = headers if isinstance(headers, dict) else {}


class Channel(pyamqp.Channel):
    Message = Sealed

    def dispatch_method(self, method_sig: tuple[int, int], payload: Any, content: Any) -> Any:
        if method_sig in (DELIVER, GET_OK):
            payload = _decodable(bytes(payload), 1 if method_sig == DELIVER else 0)
        return super().dispatch_method(method_sig, payload, content)


def install() -> None:
    """Replace py-amqp's decoding in this process, for consuming and draining. Safe to call twice."""
    method_framing.Message = Message
    pyamqp.Connection.Channel = Channel


def _decodable(payload: bytes, texts_before: int) -> bytes:
    """A delivery's arguments with an exchange and a routing key that are UTF-8: Basic.Deliver is a text, a number, a bit and these two."""
    at = 4
    for _ in range(texts_before):
        at += 1 + payload[at]
    at += 9
    found, rest = [], payload[at:]
    for _ in range(2):
        found.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    try:
        [name.decode("utf-8", "surrogatepass") for name in found]
    except UnicodeDecodeError:
        names = [name.decode("ascii", "replace").encode("ascii", "replace") for name in found]
        return payload[:at] + b"".join(bytes([len(name)]) + name for name in names) + rest
    return payload
