"""The broker on Redis (Valkey, Sentinel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..addresses import hide, shown
from ..decide.explaining import Place
from ..errors import BrokerUnavailable, ConfigError
from ..model import Priority
from .neighbours import announce, present
from .places import redis_client
from .protocol import InBroker, Keep
from .publisher import Publisher
from .redis import SIDE, STEPS, UNACKED, RedisQueues, Seen, is_delayed, task_ids

if TYPE_CHECKING:
    from celery import Celery

MARK = "embedq:mark"
EXCHANGE = "embedq"
# Our own keys, and those of kombu for the exchange's bindings.
OURS = ("embedq:*", f"_kombu.binding*.{EXCHANGE}")
LOOKS_LIKE_OURS = "*embedq*"
PAGE, LOOK_THROUGH = 1000, 20_000


class RedisBroker(Publisher):
    """`redis`: a redis-py client with short time-outs."""

    delays_messages = True
    not_removed: Sequence[str] = (
        "what Celery itself keeps in Redis (_kombu.binding.celery*): other programs of Celery's may use it",
    )

    def __init__(self, url: str, prefix: str = "") -> None:
        super().__init__(url, prefix)
        self._redis: Any = None

    @property
    def redis(self) -> Any:
        if self._redis is None:
            self._redis = redis_client(self.url, socket_timeout=1.0, socket_connect_timeout=0.5, retry=None)
        return self._redis

    def queues(self, more: Sequence[str] = ()) -> RedisQueues:
        return RedisQueues(self.redis, self.prefix, [*Priority, *more])

    def look(self, *, heads: bool = False) -> Mapping[str, InBroker]:
        with self.asked():
            found = self.queues().look()
            return {queue: _in_redis(found, queue) for queue in found.waiting}

    def of_another_kind(self) -> list[str]:
        return []

    def find_message(self, task: int, priority: str) -> tuple[Place, int | None]:
        with self.asked():
            found = _find(RedisQueues(self.redis, self.prefix, [priority]), task, priority)
        if found is None:
            raise BrokerUnavailable(
                f"more than {LOOK_THROUGH:,} messages are in the queue {priority}", hint="`embedq broker status`"
            )
        return found

    def remove(self) -> int:
        taken = self.drain(lambda queue, messages: None)
        with self.asked():
            self.redis.delete(*self._keys())
        return taken

    def remains(self) -> list[str]:
        with self.asked():
            named = {key for key in self._keys() if self.redis.exists(key)}
            similar = self.redis.scan_iter(match=self.prefix + LOOKS_LIKE_OURS, count=1000)
            return sorted(key.decode(errors="replace") for key in {*named, *similar})

    def _keys(self) -> list[bytes]:
        names = [queue + step for queue in Priority for step in STEPS] + [SIDE + name for name in (*Priority, UNACKED)]
        patterns = (self.prefix + pattern for pattern in OURS)
        found = (key for pattern in patterns for key in self.redis.scan_iter(match=pattern, count=1000))
        return [*{(self.prefix + name).encode() for name in names}, *found]

    def was_wiped(self) -> bool:
        with self.asked():
            return bool(self.redis.set(self.prefix + MARK, "embedq", nx=True))

    def announce(self, identity: str, name: str) -> list[str]:
        with self.asked():
            return announce(self.redis, self.prefix, identity, name)

    def installations(self) -> Mapping[str, str]:
        with self.asked():
            return present(self.redis, self.prefix)

    def refuse_unsuitable(self, wait_s: float) -> None:
        try:
            with closing(redis_client(self.url, socket_timeout=wait_s, socket_connect_timeout=wait_s)) as client:
                is_cluster = client.info("cluster").get("cluster_enabled")
        except Exception as away:  # redis-py raises its own errors and the socket's
            said = f"{shown(self.url)}: {type(away).__name__}: {hide(str(away), names=True)}"
            raise BrokerUnavailable(said, hint="is it running?") from away
        if is_cluster:
            raise ConfigError(
                f"the broker at {shown(self.url)} is a node of a Redis Cluster, in which Celery's queues cannot be kept together",
                hint="use one Redis, one with Sentinels (sentinel://…), or RabbitMQ; embedq needs little: what is lost there is dispatched again",
            )

    def install_consumer(self, app: Celery, keep: Keep) -> None:
        from . import rabbitmq_consumer, redis_consumer

        redis_consumer.install(keep)
        rabbitmq_consumer.install(app)

    def close(self) -> None:
        super().close()
        if self._redis is not None:
            self._redis.close()


def _in_redis(seen: Seen, queue: str) -> InBroker:
    held, following = seen.held[queue], seen.next[queue]
    in_hand = tuple(task for raw in held for task in task_ids(raw))
    first = task_ids(following) if following else ()
    return InBroker(seen.waiting[queue], len(held), first=first, held=in_hand, delayed=sum(is_delayed(raw) for raw in held))


def _find(queues: RedisQueues, task: int, priority: str) -> tuple[Place, int | None] | None:
    """None: it is not among the messages searched, and there are more."""
    if any(task in task_ids(raw) for raw in queues.look().held[priority]):
        return Place.DELIVERED, None
    for at in range(0, LOOK_THROUGH, PAGE):
        # Workers take from the end of the list.
        page = queues.client.lrange(queues.key(priority), -at - PAGE, -at - 1)[::-1]
        for ahead, raw in enumerate(page, at):
            if task in task_ids(raw):
                return Place.QUEUED, ahead
        if len(page) < PAGE:
            return Place.NOWHERE, None
    return None
