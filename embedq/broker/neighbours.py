"""Detects several installations on one broker: each installation's steward registers its name there.

Installations on one broker take each other's messages. No task is lost by that, but each waits until its message is found missing. On Redis
the names are in a hash; on RabbitMQ each name is a message in a queue that is read and never consumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

INSTALLATIONS: Final = "embedq:installations"
# The names where there are several, for `status` and `health`.
SHARED: Final = "embedq:shared"
FRESH_S: Final = 60
# RabbitMQ's queue of names. Reading it holds the messages for a moment; a concurrent reader sees fewer.
BOARD: Final = "embedq.installations"
MOST_NOTES: Final = 20
BOARD_ARGUMENTS: Final = {"x-message-ttl": FRESH_S * 1000, "x-expires": 3_600_000, "x-max-length": MOST_NOTES}


class Note(NamedTuple):
    """The registration of an installation in RabbitMQ's queue."""

    identity: str
    name: str
    tag: int


def announce(client: Any, prefix: str, identity: str, name: str) -> list[str]:
    """Register this installation; returns the names of others that registered within FRESH_S. Empty where Redis refuses (a user without
    the right, a replica). Raises redis-py's errors when Redis does not answer."""
    from redis.exceptions import ResponseError

    try:
        return _announced(client, prefix, identity, name)
    except ResponseError:
        return []


def _announced(client: Any, prefix: str, identity: str, name: str) -> list[str]:
    now = int(client.time()[0])
    pipe = client.pipeline(transaction=False)
    pipe.hset(prefix + INSTALLATIONS, identity, f"{now} {name}")
    pipe.hgetall(prefix + INSTALLATIONS)
    _, found = pipe.execute()
    others = _others(found, identity, now - FRESH_S)
    if others:
        client.set(prefix + SHARED, "; ".join(sorted([name, *others])), ex=FRESH_S)
    return others


def present(client: Any, prefix: str) -> dict[str, str]:
    """Names of all installations registered within FRESH_S, by identity. Raises redis-py's errors."""
    since = int(client.time()[0]) - FRESH_S
    told = {
        key.decode(): value.decode(errors="replace").partition(" ")
        for key, value in client.hgetall(prefix + INSTALLATIONS).items()
    }
    return {key: name for key, (at, _, name) in told.items() if at.isdigit() and int(at) >= since}


def _others(found: Mapping[bytes, bytes], identity: str, since: int) -> list[str]:
    told = [value.decode(errors="replace").partition(" ") for key, value in found.items() if key.decode() != identity]
    return sorted(name for at, _, name in told if at.isdigit() and int(at) >= since)


def announce_on_board(connection: Any, prefix: str, identity: str, name: str) -> list[str]:
    """As `announce`, on an open connection to RabbitMQ. Empty where the user may not declare the queue."""
    from amqp import Message
    from amqp.exceptions import AccessRefused, PreconditionFailed

    with suppress(AccessRefused, PreconditionFailed):
        channel = connection.channel()
        channel.queue_declare(prefix + BOARD, durable=True, auto_delete=False, arguments=BOARD_ARGUMENTS)
        notes = list(_notes(channel, prefix))
        for note in notes:
            if note.identity == identity:
                channel.basic_ack(note.tag)
        body = json.dumps({"identity": identity, "name": name})
        channel.basic_publish(Message(body, content_type="application/json"), routing_key=prefix + BOARD)
        channel.close()  # returns the messages of the others
        return sorted({note.name for note in notes if note.identity != identity})
    return []


def on_board(connection: Any, prefix: str = "") -> str:
    """The names in RabbitMQ's queue as one text where there are several, for `status` and `health`; else empty."""
    notes = present_on_board(connection, prefix)
    return "; ".join(sorted(notes.values())) if len(notes) > 1 else ""


def present_on_board(connection: Any, prefix: str = "") -> dict[str, str]:
    """As `present`."""
    from amqp.exceptions import AccessRefused, NotFound

    with suppress(AccessRefused, NotFound):
        channel = connection.channel()
        notes = {note.identity: note.name for note in _notes(channel, prefix)}
        channel.close()
        return notes
    return {}


def _notes(channel: Any, prefix: str) -> Iterator[Note]:
    """Take the registrations without acknowledging them. Other messages are skipped; they expire."""
    for _ in range(MOST_NOTES):
        message = channel.basic_get(prefix + BOARD)
        if message is None:
            return
        with suppress(ValueError, TypeError, KeyError):
            said = json.loads(message.body)
            yield Note(str(said["identity"]), str(said["name"]), message.delivery_tag)
