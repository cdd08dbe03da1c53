"""Drains the broker into the table, rebuilds it from the table, backs it up, and compares the two."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...broker import Broker, InBroker
from ...errors import NotWell
from ...local.files import written
from ...model import Priority
from ...settings import Settings
from ...steward.dispatcher import Dispatcher
from ...steward.hand_over import free_all
from ...store import Store
from ...store.rejected import Drained

# Seconds without a new message after which the broker counts as drained: a worker may still requeue messages that it held.
QUIET_S = 2.5
# Shortest time that an empty broker is watched: a message on its way between broker and worker is in neither.
WATCHED_S = 0.5
HELD = "wait for it to end; if its process is gone, the lock is free within seconds"


def drain(
    store: Store,
    broker: Broker,
    *,
    limit_s: float = 600.0,
    quiet_s: float | None = None,
    fenced_at: float | None = None,
    more: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
    patience_s: float = 3.0,
) -> Drained:
    """Move every message from the broker into the table. Raises BrokerUnavailable, and NotWell if another drain is running.

    While the mode dispatches, only the messages present at the start are taken, because the steward publishes freed tasks again.
    `fenced_at` (monotonic): no process has published since then; a broker that is empty at the first look has been quiet since that time.
    """
    done = Drained()

    def take(queue: str, messages: Sequence[bytes]) -> None:
        done.add(store.rejected.take(queue, messages))
        say(f"{done.messages:,} messages taken, {done.rejected} kept for review")

    if quiet_s is None:
        quiet_s = 0.0 if is_refilled(store) else QUIET_S
    with store.switches.alone("drain", HELD, patience_s):
        fenced_s = 0.0 if fenced_at is None else time.monotonic() - fenced_at
        quiet_for_s = max(0.0, min(fenced_s, quiet_s - WATCHED_S))
        broker.drain(take, quiet_s=quiet_s, quiet_for_s=quiet_for_s, limit_s=limit_s, more=more)
    return done


def is_refilled(store: Store) -> bool:
    """Whether other processes publish during the drain."""
    return store.status.live().dispatches


@dataclass(slots=True)
class Rebuilt:
    """The result of a rebuild: messages drained, tasks freed, tasks dispatched, tasks left in the table."""

    drained: Drained
    freed: int
    dispatched: int
    left_in_table: int


def rebuild(store: Store, broker: Broker, settings: Settings) -> Rebuilt:
    """Drain the broker into the table, then publish all due tasks, up to the depth limit. Needs no steward."""
    if not is_refilled(store):
        raise NotWell(
            "the live mode sends nothing to the broker",
            hint='`embedq mode celery --reason "…"` (or hybrid) first; then rebuild',
        )
    drained = drain(store, broker, quiet_s=0.0)
    freed = drained.freed + free_all(store)
    broker.reconnect()
    dispatched = Dispatcher(store, broker, settings).dispatch()
    store.workers.wake()
    return Rebuilt(drained, freed, dispatched, store.switches.counts()["free"])


def back_up(broker: Broker, path: Path, more: Sequence[str] = (), limit_s: float = 3600.0) -> int:
    """Write every message as a line of JSON, {"queue", "raw"}, or "raw_base64" if it is not UTF-8. No message is removed.

    Raises NotWell if it takes longer than `limit_s`; lines written by then are kept.
    """
    copied, deadline = 0, time.monotonic() + limit_s
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with written(path, private=True) as file:
        for queue, raw in broker.messages(more):
            file.write(_line(queue, raw))
            copied += 1
            if time.monotonic() > deadline:
                raise NotWell(
                    f"the copy of the broker is not complete after {limit_s:g} s", hint="what was copied is in the file"
                )
    return copied


# Made once, because json.dumps with options makes an encoder per call.
_text = json.JSONEncoder(ensure_ascii=False).encode


def _line(queue: str, raw: bytes) -> str:
    try:
        return f'{{"queue": {_text(queue)}, "raw": {_text(raw.decode())}}}\n'
    except UnicodeDecodeError:
        return f'{{"queue": {_text(queue)}, "raw_base64": "{base64.b64encode(raw).decode()}"}}\n'


def compared(store: Store, broker: Broker) -> list[dict[str, Any]]:
    """By queue: messages in the broker, and tasks that the table has as dispatched. Raises BrokerUnavailable."""
    held, trusted = broker.look(), store.procedures.oldest_with_broker()
    consumers = consumers_of(store)
    return [_row(name, held[name], trusted.get(name, {}), consumers) for name in Priority]


def _row(name: Priority, queue: InBroker, trusted: Any, consumers: dict[str, int]) -> dict[str, Any]:
    return {
        "queue": name.value,
        "waiting": queue.waiting,
        "unacknowledged": queue.unacknowledged,
        "delayed": queue.delayed,
        "consumers": consumers.get(name, 0) if queue.consumers is None else queue.consumers,
        "tasks_with_broker": trusted.get("tasks", 0),
        "oldest_s": trusted.get("oldest_s"),
    }


def consumers_of(store: Store) -> dict[str, int]:
    """Living Celery workers by the queue that they serve."""
    found: dict[str, int] = {}
    for worker in store.workers.all():
        if worker["alive"] and worker["delivery"] == "celery":
            for queue in worker["queues"]:
                found[queue] = found.get(queue, 0) + 1
    return found
