"""How it all goes, at a glance: what `status`, `health` and monitors look at. Bounded reads, short time-outs, no heavy import."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from .assemble import addresses
from .broker import Broker, InBroker, is_redis, shown
from .broker.amqp import glimpse
from .broker.redis import RedisQueues, task_ids
from .decide.health import Facts, Finding, ProviderTrouble, findings
from .errors import BrokerUnavailable
from .model import Delivery, Mode, Priority
from .settings import Settings
from .store import Store
from .store.database import Row

BROKER_WAIT_S = 0.3
MINUTE_S, HOUR_S = 60.0, 3600.0
SETTLING_IN_S = 30.0
PAGE, LOOK_THROUGH = 1000, 20_000


@dataclass(frozen=True, slots=True)
class Peek:
    """The broker from outside. `waiting`: messages by queue, None where it did not answer, `why` not. `unacknowledged`:
    None where nobody can see them. `of_another_kind`: queues that are not declared as ours are (RabbitMQ)."""

    reachable: bool
    why: str = ""
    waiting: Mapping[str, int] | None = None
    unacknowledged: int | None = None
    of_another_kind: Sequence[str] = ()


@dataclass(slots=True)
class Glance:
    """`tasks`: open tasks by priority and place. `rate`: completed per second in the last minute. `eta_s`: None when nothing moves."""

    live: Row
    workers: list[Row]
    tasks: list[Row]
    peek: Peek | None
    facts: Facts
    rate: float = 0.0
    oldest: Any = None
    about: bool = False
    found: list[Finding] = field(default_factory=list)

    @property
    def open(self) -> int:
        return sum(row["tasks"] for row in self.tasks)

    @property
    def eta_s(self) -> float | None:
        return self.open / self.rate if self.rate and self.open else None


def glance(store: Store, settings: Settings) -> Glance:
    """Everything that `status` and `health` tell. The broker is asked while PostgreSQL is read."""
    peeking = _Peeking(addresses(settings).broker_url)
    live = store.status.live() or {
        "mode": settings.mode,
        "is_running": False,
        "reason": "the live row is missing: `embedq start`",
    }
    workers = [row for row in store.workers.all() if row["alive"]]
    tasks = store.overview.depth()
    lately = store.overview.settled(MINUTE_S)
    facts = _facts(store, settings, live, workers, tasks, peeking.answer())
    return Glance(
        live, workers, tasks, peeking.answer(), facts, lately["completed"] / MINUTE_S,
        min((row["oldest"] for row in tasks if row["oldest"]), default=None), any(row["about"] for row in tasks), findings(facts),
    )  # fmt: skip


def _facts(store: Store, settings: Settings, live: Row, workers: Sequence[Row], tasks: Sequence[Row], peek: Peek) -> Facts:
    lately = store.overview.settled(HOUR_S)
    celery = [worker for worker in workers if worker["delivery"] == Delivery.CELERY]
    pollers = [worker for worker in workers if worker["delivery"] == Delivery.POLLER]
    priorities, tenants = live.get("paused_priorities", ()), live.get("paused_tenants", ())
    return Facts(
        mode=Mode(live["mode"]),
        is_running=live["is_running"],
        submissions_accepted=live.get("submissions_accepted", True),
        dispatch_held=live.get("dispatch_held", False),
        paused_priorities=priorities,
        paused_tenants=tenants,
        broker=peek.reachable,
        broker_why=peek.why,
        of_another_kind=peek.of_another_kind,
        celery_workers=len(celery),
        pollers=len(pollers),
        steward=has_steward(workers),
        consumed=consumed(celery),
        polled=consumed(pollers),
        waiting=_waiting(tasks),
        oldest_due_s=store.overview.oldest_due_s(priorities, tenants),
        stuck=store.overview.stuck(settings.worker_timeout_s),
        troubles=[ProviderTrouble(row["name"], row["pause_reason"] or "", row["for_s"] or 0.0, row["left_s"] or 0.0)
                  for row in store.overview.troubled_providers()],
        failed=lately["failed"],
        settled=lately["settled"],
        failed_ever=store.overview.failed(),
    )  # fmt: skip


def has_steward(workers: Sequence[Row]) -> bool:
    """Whether one of them leads the housekeeping; those that have just started are given the time to."""
    now = datetime.now(UTC)
    settled_in = [worker for worker in workers if (now - worker["started_at"]).total_seconds() > SETTLING_IN_S]
    return not settled_in or any(worker["steward_since"] for worker in workers)


def consumed(workers: Sequence[Row]) -> frozenset[str]:
    """The queues that these living workers serve; one that named none serves all."""
    return frozenset(queue for worker in workers for queue in (worker["queues"] or Priority))


def _waiting(tasks: Sequence[Row]) -> dict[str, int]:
    waiting: dict[str, int] = {}
    for row in tasks:
        if row["place"] != "worker":
            waiting[row["priority"]] = waiting.get(row["priority"], 0) + row["tasks"]
    return waiting


class _Peeking:
    """A look at the broker that is under way."""

    def __init__(self, url: str) -> None:
        self._found = Peek(False, "no answer in time")
        self._thread = threading.Thread(target=self._look, args=(url,), daemon=True)
        self._thread.start()

    def _look(self, url: str) -> None:
        self._found = peek(url)

    def answer(self) -> Peek:
        self._thread.join(3 * BROKER_WAIT_S)
        return self._found


def peek(url: str) -> Peek:
    """A short look at the broker; never raises, and answers within a second."""
    try:
        return _peek_redis(url) if is_redis(url) else _peek_rabbitmq(url)
    except Exception as away:  # redis-py and py-amqp raise their own errors and the socket's
        return Peek(False, f"{shown(url)}: {type(away).__name__}: {str(away)[:80]}".rstrip(": "))


def _peek_redis(url: str) -> Peek:
    wanted = [("LLEN", name.value) for name in Priority] + [("HLEN", "unacked")]
    *waiting, unacknowledged = _over_socket(url, wanted) if urlsplit(url).scheme == "redis" else _by_redis_py(url, wanted)
    return Peek(True, "", dict(zip([p.value for p in Priority], waiting, strict=True)), unacknowledged)


def _over_socket(url: str, wanted: Sequence[tuple[str, ...]]) -> list[int]:
    """Redis' own protocol by hand: importing redis-py takes a sixth of the time that `status` has (docs/why/startup.rst).

    Source: Redis serialization protocol, RESP2.
    """
    parts = urlsplit(url)
    first: list[tuple[str, ...]] = []
    if parts.password:
        first.append(("AUTH", *([unquote(parts.username)] if parts.username else []), unquote(parts.password)))
    if parts.path.strip("/"):
        first.append(("SELECT", parts.path.strip("/")))
    address = (parts.hostname or "127.0.0.1", parts.port or 6379)
    with socket.create_connection(address, timeout=BROKER_WAIT_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"".join(_encoded(words) for words in [*first, *wanted]))
        return [_number(answers.readline()) for _ in [*first, *wanted]][len(first) :]


def _encoded(words: Sequence[str]) -> bytes:
    raw = [word.encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


def _number(line: bytes) -> int:
    """An integer's line (`:3`), or 0 for `+OK`. Raises ConnectionError with what Redis refused."""
    if line[:1] not in (b":", b"+"):
        raise ConnectionError(line[1:40].decode(errors="replace").strip() or "the connection was closed")
    return int(line[1:]) if line.startswith(b":") else 0


def _by_redis_py(url: str, wanted: Sequence[tuple[str, ...]]) -> list[int]:
    """TLS, Unix sockets and the like."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(url, socket_timeout=BROKER_WAIT_S, socket_connect_timeout=BROKER_WAIT_S, retry=retry) as client:
        pipe = client.pipeline(transaction=False)
        for words in wanted:
            pipe.execute_command(*words)
        return [int(answer) for answer in pipe.execute()]


def _peek_rabbitmq(url: str) -> Peek:
    """An open port is not enough: whether it lets us in and has our queues as we declare them costs a few milliseconds more."""
    queues = glimpse(url, BROKER_WAIT_S) if urlsplit(url).scheme in ("amqp", "pyamqp") else _by_celery(url)
    waiting = {name: seen.waiting for name, seen in queues.items()}
    return Peek(True, "", waiting, of_another_kind=[name for name, seen in queues.items() if seen.of_another_kind])


def _by_celery(url: str) -> Mapping[str, InBroker]:
    """TLS, with the options that Celery has for it."""
    with closing(Broker(url)) as broker:
        return broker.look()


def find_message(url: str, task: int, priority: str) -> int | None:
    """How many messages are ahead of the one that names this task, in its queue; -1: a worker has it; None: there is none.

    Raises BrokerUnavailable when the broker does not answer, or has more than it is sensible to look through.
    """
    broker = Broker(url)
    try:
        with broker.redis as client:
            return _find(RedisQueues(client, "", [priority]), task, priority)
    except BrokerUnavailable:
        raise
    except Exception as away:  # redis-py raises its own errors and the socket's
        raise BrokerUnavailable(
            f"the broker cannot be looked into ({type(away).__name__})", hint="`embedq broker status`"
        ) from away
    finally:
        broker.close()


def _find(queues: RedisQueues, task: int, priority: str) -> int | None:
    if any(task in task_ids(raw) for raw in queues.look().held[priority]):
        return -1
    for at in range(0, LOOK_THROUGH, PAGE):
        # The next in line is the last of the list.
        page = queues.client.lrange(queues.key(priority), -at - PAGE, -at - 1)[::-1]
        for ahead, raw in enumerate(page, at):
            if task in task_ids(raw):
                return ahead
        if len(page) < PAGE:
            return None
    raise BrokerUnavailable(f"more than {LOOK_THROUGH:,} messages are in the queue {priority}", hint="`embedq broker status`")
