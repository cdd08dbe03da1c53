"""Messages from Redis are checked before a Celery worker reads them; Celery would exit at a wrong type, or lose the message.

When Celery's consumer receives a message, Redis has already removed it from its list. Therefore the bytes are checked in redis-py's response:
Celery receives our messages rebuilt from the checked fields; all others are stored as a drain stores them.
Remote commands and restored unacknowledged messages are checked in the same way. (RabbitMQ keeps a message until it
is acknowledged, so there the consumer itself checks: `rabbitmq_consumer`.)
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from kombu.transport import redis as kombu_redis

from ..decide.control import made_anew
from ..decide.messages import for_celery, is_restorable
from .protocol import Keep
from .redis import SIDE, UNACKED

log = logging.getLogger(__name__)


def install(keep: Keep) -> None:
    """Workers of this process pass messages that Celery cannot read to `keep(queue, raw)` from now on; if that fails, they are put back."""

    class KeepingQoS(kombu_redis.QoS):
        def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
            with self.channel.conn_or_acquire(client) as client:
                held = client.hget(self.unacked_key, tag)
                if held is None or is_restorable(held):
                    super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
                else:
                    _kept(client, keep, UNACKED, held)
                    self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]

    class KeepingChannel(kombu_redis.Channel):
        QoS = KeepingQoS

        def _get_client(self) -> Any:
            usual: Any = super()._get_client()  # type: ignore[no-untyped-call]
            if isinstance(usual, functools.partial):
                return functools.partial(_keeping(usual.func), **usual.keywords, keep=keep)
            return functools.partial(_keeping(usual), keep=keep)

        def get_table(self, exchange: Any) -> list[tuple[str, ...]]:
            """The bindings of an exchange, which kombu keeps in Redis: three names each."""
            with self.conn_or_acquire() as client:
                rows = client.smembers(self.keyprefix_queue % exchange)
            split = (row.decode(errors="replace").split(self.sep) for row in rows)
            return [tuple(names) for names in split if len(names) == 3]

    kombu_redis.Transport.Channel = KeepingChannel


@functools.cache
def _keeping(base: Any) -> Callable[..., Any]:
    class KeepingRedis(base):  # type: ignore[misc]
        def __init__(self, *args: Any, keep: Keep, **options: Any) -> None:
            self._keep = keep
            super().__init__(*args, **options)

        def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            answer = super().parse_response(connection, command_name, **options)
            return self._looked_at(*answer) if command_name == "BRPOP" and answer else answer

        def _looked_at(self, key: bytes, raw: bytes) -> list[bytes] | None:
            """The checked answer for Celery; None: no message for it."""
            queue = key.decode(errors="replace").partition("\x06")[0]
            message = for_celery(raw, queue, str(uuid4()), datetime.now(UTC))
            if message is not None:
                return [key, json.dumps(message).encode()]
            _kept(self, self._keep, queue, raw)
            return None

        def pubsub(self, **options: Any) -> Any:
            subscription = super().pubsub(**options)
            usual = subscription.parse_response
            subscription.parse_response = lambda *args, **more: _command(usual(*args, **more))
            return subscription

    return KeepingRedis


def _kept(client: Any, keep: Keep, queue: str, raw: bytes) -> None:
    try:
        keep(queue, raw)
    except Exception as away:
        # The side list of drains: the next drain takes it from there.
        log.warning("a message on %s that Celery cannot take waits in Redis for `embedq broker drain`: %s", queue, away)
        client.lpush(SIDE + queue, raw)


def _command(answer: Any) -> Any:
    """A remote command of a subscription, rebuilt from checked fields; None for anything else."""
    if not isinstance(answer, list | tuple) or answer[0] not in (b"pmessage", b"message"):
        return answer
    made = made_anew(answer[-1], str(uuid4())) if isinstance(answer[-1], bytes) else "it is no message"
    if isinstance(made, bytes):
        return [*answer[:-1], made]
    log.warning("a remote command is ignored: %s", made)
    return None
