"""What a Celery worker takes from Redis and cannot understand is kept (SPEC S8); Celery alone would exit over it, or lose it.

Celery's consumer begins with a message that is already out of its list. So ours looks at the bytes when Redis hands them
over: a message of ours goes on to Celery; anything else is brought into the table, as a drain would do it. (RabbitMQ keeps a
message until it is acknowledged, so there the consumer itself can look: `consuming`.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kombu.transport import redis as kombu_redis

from ..decide.messages import envelope_of, is_for_celery
from ..model import Priority

Keep = Callable[[str, bytes], None]


def is_deliverable(raw: bytes) -> bool:
    """Whether Celery's consumer will take it: one for Celery, with the properties that kombu relies on."""
    properties = (envelope_of(raw) or {}).get("properties")
    return is_for_celery(raw) and isinstance(properties, dict) and "delivery_tag" in properties


def install(keep: Keep) -> None:
    """From now on, workers of this process hand what Celery cannot take to `keep(queue, raw)`; if that fails, it is put back."""

    class KeepingChannel(kombu_redis.Channel):
        def _get_client(self) -> Any:
            usual: Any = super()._get_client()  # type: ignore[no-untyped-call]
            if isinstance(usual, functools.partial):
                return functools.partial(_keeping(usual.func), **usual.keywords, keep=keep)
            return functools.partial(_keeping(usual), keep=keep)

    kombu_redis.Transport.Channel = KeepingChannel


@functools.cache
def _keeping(base: Any) -> Callable[..., Any]:
    class KeepingRedis(base):  # type: ignore[misc]
        def __init__(self, *args: Any, keep: Keep, **options: Any) -> None:
            self._keep = keep
            super().__init__(*args, **options)

        def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            answer = super().parse_response(connection, command_name, **options)
            if command_name != "BRPOP" or not answer or not self._is_ours(answer[0]) or is_deliverable(answer[1]):
                return answer
            queue, raw = answer
            try:
                self._keep(queue.decode(), raw)
            except Exception:
                # Where an earlier drain would have left it: the next drain finds it there.
                self.lpush(f"embedq:drain:{queue.decode()}", raw)
            return None

        @staticmethod
        def _is_ours(queue: bytes) -> bool:
            return queue.decode(errors="replace") in [name.value for name in Priority]

    return KeepingRedis
