"""A short look at the broker from outside (`status`, `health`), without importing Celery or redis-py."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from ..addresses import hide, secret_of, shown
from ..decide.broker_states import BrokerState, in_alarm, parsed, shared_by, states
from ..model import Priority
from .neighbours import SHARED
from .places import is_redis, redis_client
from .rabbitmq import Glimpse, glimpse
from .rabbitmq_broker import RabbitBroker

BROKER_WAIT_S = 0.3


@dataclass(frozen=True, slots=True)
class Peek:
    """The broker from outside. `waiting`: messages by queue, None where it did not answer; `why`: the reason. `unacknowledged`:
    None where they cannot be seen. `of_another_kind`: queues that are not declared as ours are (RabbitMQ). `states`: why it may lose or refuse
    messages, as far as it can be queried. `refuses`: why it accepts no message although it answers; empty where it accepts them, or where
    that cannot be found out."""

    reachable: bool
    why: str = ""
    waiting: Mapping[str, int] | None = None
    unacknowledged: int | None = None
    of_another_kind: Sequence[str] = ()
    states: Sequence[BrokerState] = ()
    refuses: str = ""


class Peeking:
    """A look at the broker that has begun."""

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
    url = secret_of(url)
    try:
        return _peek_redis(url) if is_redis(url) else _peek_rabbitmq(url)
    except Exception as away:  # redis-py and py-amqp raise their own errors and the socket's
        return Peek(False, f"{shown(url)}: {type(away).__name__}: {hide(str(away), names=True)[:80]}".rstrip(": "))


def _peek_redis(url: str) -> Peek:
    wanted = [("LLEN", name.value) for name in Priority] + [("HLEN", "unacked"), ("GET", SHARED), ("INFO",)]
    (*numbers, shared, info), refuses = (_over_socket if urlsplit(url).scheme == "redis" else _by_redis_py)(url, wanted)
    for refused in numbers:
        if isinstance(refused, str):
            raise ConnectionError(refused)
    if str(shared).startswith("NOPERM"):
        shared = ""
    *waiting, unacknowledged = map(int, numbers)
    queues = dict(zip([p.value for p in Priority], waiting, strict=True))
    return Peek(True, "", queues, unacknowledged, states=states(parsed(str(info)), str(shared)), refuses=hide(refuses))


# Tests whether Redis would accept a message: it checks memory, rights and role when a command is queued in a transaction, which is discarded.
BEGIN, TRY, DROP = ("MULTI",), ("LPUSH", Priority.LOW.value, ""), ("DISCARD",)


def _over_socket(url: str, wanted: Sequence[tuple[str, ...]]) -> tuple[list[int | str], str]:
    """The replies (numbers; texts of bulk replies and errors), and why a message would be refused. The Redis protocol is written here by hand,
    because importing redis-py takes a sixth of the time that `status` may take (docs/why/startup.rst).

    Source: Redis serialization protocol, RESP2; Redis documentation, Transactions.
    """
    parts = urlsplit(url)
    first: list[tuple[str, ...]] = []
    if parts.password:
        first.append(("AUTH", *([unquote(parts.username)] if parts.username else []), unquote(parts.password)))
    if parts.path.strip("/"):
        first.append(("SELECT", parts.path.strip("/")))
    address = (parts.hostname or "127.0.0.1", parts.port or 6379)
    with socket.create_connection(address, timeout=BROKER_WAIT_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"".join(_encoded(words) for words in [*first, *wanted, BEGIN]))
        for _ in first:
            if isinstance(refused := _answer(answers), str):
                raise ConnectionError(refused)
        found = [_answer(answers) for _ in wanted]
        if not answers.readline().startswith(b"+"):
            return found, ""
        connection.sendall(_encoded(TRY) + _encoded(DROP))
        tried = answers.readline()
        return found, tried[1:200].decode(errors="replace").strip() if tried.startswith(b"-") else ""


def _encoded(words: Sequence[str]) -> bytes:
    raw = [word.encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


def _answer(answers: BinaryIO) -> int | str:
    """An integer (`:3`), 0 for `+OK`, a text (`$5`), or the text of an error (`-NOPERM …`)."""
    line = answers.readline()
    match line[:1]:
        case b":":
            return int(line[1:])
        case b"+":
            return 0
        case b"$":
            return answers.read(int(line[1:]) + 2).decode(errors="replace").rstrip("\r\n") if int(line[1:]) >= 0 else ""
        case _:
            return line[1:40].decode(errors="replace").strip() or "the connection was closed"


def _by_redis_py(url: str, wanted: Sequence[tuple[str, ...]]) -> tuple[list[int | str], str]:
    """By redis-py, for TLS, Unix sockets and Sentinel."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry = Retry(NoBackoff(), 0)
    with redis_client(url, socket_timeout=BROKER_WAIT_S, socket_connect_timeout=BROKER_WAIT_S, retry=retry) as client:
        pipe = client.pipeline(transaction=False)
        for words in wanted:
            pipe.execute_command(*words)
        *numbers, shared, info = pipe.execute(raise_on_error=False)
        told = "\n".join(f"{name}:{value}" for name, value in info.items()) if isinstance(info, dict) else ""
        names = shared.decode(errors="replace") if isinstance(shared, bytes) else ""
        found = [*(each if isinstance(each, int) else str(each) for each in numbers), names, told]
        return found, _refused(client)


def _refused(client: Any) -> str:
    """Why a message would be refused; empty where it would be accepted, or where the user may not find out."""
    from redis import ResponseError

    with client.client() as one:
        try:
            one.execute_command(*BEGIN)
        except ResponseError:
            return ""
        try:
            one.execute_command(*TRY)
        except ResponseError as refused:
            return str(refused)
        one.execute_command(*DROP)
        return ""


def _peek_rabbitmq(url: str) -> Peek:
    """Log in and check the declaration of our queues too; that takes a few milliseconds more than opening the port."""
    seen = glimpse(url, BROKER_WAIT_S) if urlsplit(url).scheme in ("amqp", "pyamqp") else _by_celery(url)
    waiting = {name: each.waiting for name, each in seen.queues.items()}
    of_another_kind = [name for name, each in seen.queues.items() if each.of_another_kind]
    found = [*shared_by(seen.names), *in_alarm(seen.alarm)]
    refuses = f"ALARM {seen.alarm}" if seen.alarm else ""
    return Peek(True, "", waiting, of_another_kind=of_another_kind, states=found, refuses=refuses)


def _by_celery(url: str) -> Glimpse:
    """By kombu, for TLS, with Celery's options. Alarms are not detected."""
    with closing(RabbitBroker(url)) as broker:
        return Glimpse(broker.declared(), broker.shared_by(), "")
