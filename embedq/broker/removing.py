"""Our queues out of a broker, and a look whether any of them is left. What other programs keep there is left alone."""

from __future__ import annotations

from typing import Any

from ..model import Priority
from . import Broker, is_redis
from .redis import SIDE, STEPS, UNACKED

EXCHANGE = "embedq"
# Our own keys, and those in which kombu keeps the exchange's bindings.
OURS = ("embedq:*", f"_kombu.binding*.{EXCHANGE}")
LOOKS_LIKE_OURS = "*embedq*"


def remove(broker: Broker) -> int:
    """Drop every message of ours, waiting or delivered, and the queues; how many messages there were. Raises BrokerUnavailable."""
    taken = broker.drain(lambda queue, messages: None)
    with broker._asked():
        if is_redis(broker.url):
            _remove_keys(broker)
        else:
            _delete_queues(broker)
    return taken


def remains(broker: Broker) -> list[str]:
    """What of ours is still there, by name. Raises BrokerUnavailable."""
    if is_redis(broker.url):
        with broker._asked():
            named = {key for key in _keys(broker) if broker.redis.exists(key)}
            similar = broker.redis.scan_iter(match=broker.prefix + LOOKS_LIKE_OURS, count=1000)
            return sorted(key.decode(errors="replace") for key in {*named, *similar})
    return [queue for queue, seen in broker.look().items() if seen.waiting]


def _remove_keys(broker: Broker) -> None:
    keys = _keys(broker)
    if keys:
        broker.redis.delete(*keys)


def _keys(broker: Broker) -> list[bytes]:
    names = [queue + step for queue in Priority for step in STEPS] + [SIDE + name for name in (*Priority, UNACKED)]
    found = {(broker.prefix + name).encode() for name in names}
    return [*found, *(key for pattern in OURS for key in broker.redis.scan_iter(match=broker.prefix + pattern, count=1000))]


def _delete_queues(broker: Broker) -> None:
    with broker.connection() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
        channel: Any = connection.channel()
        for queue in Priority:
            channel.queue_delete(broker.prefix + queue)
        channel.exchange_delete(EXCHANGE)
