"""The four queues on Redis: lists of waiting messages, and a hash of delivered, unacknowledged ones.

Draining moves a message atomically from its queue to a side list, stores the side list in the table page by page, and deletes each page from
the side list only after its commit. In tests with a live worker and a drain that was killed repeatedly, no message was lost
(docs/why/drain.rst).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..decide.messages import NamesTasks, envelope_of, understand
from ..model import Priority
from .quiet import Taken, until_quiet

SIDE = "embedq:drain:"
UNACKED, INDEX = "unacked", "unacked_index"
# Suffixes of kombu's lists for messages with a priority; ours have none, messages of other programs may.
STEPS = ["", *(f"\x06\x16{step}" for step in range(1, 10))]
AT_ONCE = 2000

# Many LMOVE in one round trip, so that workers do not take the messages first.
MOVE = """
local moved = 0
for _ = 1, tonumber(ARGV[1]) do
    if not redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') then break end
    moved = moved + 1
end
return moved
"""
# Takes a message from a worker that may be alive: its later acknowledgement has no effect, and the claim decides whether it may embed.
STEAL = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then redis.call('LPUSH', KEYS[3], held) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return held and 1 or 0
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of the queues at one look, by queue: number waiting, unacknowledged messages, the message next in line."""

    waiting: dict[str, int]
    held: dict[str, list[bytes]]
    next: dict[str, bytes | None]


class RedisQueues:
    """`client` is a redis-py client with short time-outs; `prefix` goes before every key (kombu's global_keyprefix)."""

    def __init__(self, client: Any, prefix: str = "", queues: Sequence[str] = tuple(Priority)) -> None:
        self.client, self.prefix, self.queues = client, prefix, [str(queue) for queue in queues]

    def key(self, name: str) -> str:
        return self.prefix + name

    def look(self) -> Seen:
        pipe = self.client.pipeline(transaction=False)
        for queue in self.queues:
            for step in STEPS:
                pipe.llen(self.key(queue + step))
            pipe.lrange(self.key(queue), -1, -1)
        answers = iter(pipe.execute())
        waiting, following = {}, {}
        for queue in self.queues:
            waiting[queue] = sum(next(answers) for _ in STEPS)
            following[queue] = next(iter(next(answers)), None)
        held: dict[str, list[bytes]] = {queue: [] for queue in self.queues}
        for _, raw, queue in self._unacknowledged():
            held.setdefault(queue, []).append(raw)
        return Seen(waiting, held, following)

    def _unacknowledged(self) -> Iterator[tuple[bytes, bytes, str]]:
        """Tag, message and queue of unacknowledged messages from our queues, and of those that cannot be read; others are left out."""
        for tag, raw in self.client.hscan_iter(self.key(UNACKED), count=AT_ONCE):
            queue = routing_key(raw)
            if queue in self.queues or queue is None:
                yield tag, raw, queue or UNACKED

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Every message, without taking it: in a side list, waiting, unacknowledged."""
        for name in [*(queue + step for queue in self.queues for step in STEPS)]:
            yield from ((name.partition("\x06")[0], raw) for raw in self._pages(name))
        for queue in [*self.queues, UNACKED]:
            yield from ((queue, raw) for raw in self._pages(SIDE + queue))
        yield from ((queue, raw) for _, raw, queue in self._unacknowledged())

    def _pages(self, name: str) -> Iterator[bytes]:
        at = 0
        while page := self.client.lrange(self.key(name), at, at + AT_ONCE - 1):
            yield from page
            at += len(page)

    def drain(self, take: Taken, *, quiet_s: float, until: float, quiet_for_s: float = 0.0) -> int:
        """Take every message: `take(queue, messages)` must have committed when it returns. Returns how many were taken; `until_quiet` says when
        it ends.
        """
        return until_quiet(lambda: self._empty_once(take, until), quiet_s=quiet_s, until=until, quiet_for_s=quiet_for_s)

    def _empty_once(self, take: Taken, until: float) -> int:
        self._set_aside()
        return sum(self._hand_over(queue, take, until) for queue in [*self.queues, UNACKED])

    def _set_aside(self) -> None:
        """Move everything to the side lists first, so that live workers get no more messages."""
        for queue in self.queues:
            for step in STEPS:
                self._move(self.key(queue + step), self.key(SIDE + queue))
        for tag, _, queue in list(self._unacknowledged()):
            self.client.eval(STEAL, 3, self.key(UNACKED), self.key(INDEX), self.key(SIDE + queue), tag)

    def _move(self, source: str, side: str) -> None:
        """Messages that are there now; those that producers add meanwhile are moved in the next round."""
        left = int(self.client.llen(source))
        while left > 0:
            self.client.eval(MOVE, 2, source, side, min(left, AT_ONCE))
            left -= AT_ONCE

    def _hand_over(self, queue: str, take: Taken, until: float) -> int:
        """Page by page, the oldest first: commit, then delete from the list. After a crash in between, the page is taken again."""
        side, done = self.key(SIDE + queue), 0
        while time.monotonic() <= until and (page := self.client.lrange(side, -AT_ONCE, -1)):
            take(queue, page[::-1])
            self.client.ltrim(side, 0, -len(page) - 1)
            done += len(page)
        return done

    def empty(self) -> None:
        """Remove the queues, whatever is in them (scratch queues only)."""
        keys = list(self.client.scan_iter(match=self.prefix + "*", count=AT_ONCE)) if self.prefix else []
        if keys:
            self.client.delete(*keys)


def routing_key(raw: bytes) -> str | None:
    """The queue that an unacknowledged message came from; None when that cannot be read."""
    try:
        _, _, queue = json.loads(raw)
    except (ValueError, TypeError, RecursionError):
        return None
    return queue if isinstance(queue, str) else None


def task_ids(raw: bytes) -> tuple[int, ...]:
    """The task ids of a message of ours; empty for other messages."""
    match understand(raw):
        case NamesTasks(ids):
            return ids
        case _:
            return ()


def is_delayed(raw: bytes) -> bool:
    """Whether a delivered message has an ETA or countdown, and so waits in its worker's memory."""
    headers = (envelope_of(raw) or {}).get("headers")
    return isinstance(headers, dict) and bool(headers.get("eta"))
