"""Gathers the facts that `decide.assess` judges. Waits for nobody longer than a time-out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ..broker import Broker, InBroker
from ..decide.assess import Facts
from ..errors import BrokerUnavailable
from ..model import Mode
from ..store import Store
from ..store.database import Row

HOUR_S = 3600.0


def gather(store: Store, broker: Broker) -> Facts:
    live = store.status.live() or {}
    answers_in_s, queues = _ask(broker)
    alive = [worker["delivery"] for worker in store.workers.all() if worker["alive"]]
    lately = {row["delivery"]: row for row in store.procedures.deliveries_lately(HOUR_S)}
    audit = store.procedures.audit_lately(HOUR_S)
    with_broker = store.procedures.oldest_with_broker()
    return Facts(
        mode=Mode(live.get("mode", Mode.CELERY)),
        is_running=live.get("is_running", True),
        broker_answers=answers_in_s is not None,
        broker_answers_in_s=answers_in_s,
        queues_of_another_kind=tuple(name for name, queue in queues.items() if queue.of_another_kind),
        messages_waiting=sum(queue.waiting + queue.unacknowledged for queue in queues.values()),
        celery_workers=alive.count("celery"),
        pollers=alive.count("poller"),
        open_tasks=sum(store.switches.counts().values()),
        oldest_unclaimed_s=max((row["oldest_s"] for row in with_broker.values()), default=None),
        celery_done_lately=_of(lately, "celery", "completed"),
        celery_failed_lately=_of(lately, "celery", "failed"),
        poller_done_lately=_of(lately, "poller", "completed"),
        poller_failed_lately=_of(lately, "poller", "failed"),
        rescues_lately=audit.get(("rescue", "warning"), 0),
        lost_messages_lately=store.procedures.lost_messages_lately(HOUR_S),
        provider_fault=_fault(store.procedures.faulty_providers()),
        integrity_problems=tuple(store.care.verify()["problems"]),
    )


def _ask(broker: Broker) -> tuple[float | None, Mapping[str, InBroker]]:
    """How long it takes to answer, and what. The second look is timed: what the first imports is not the broker's slowness."""
    try:
        broker.look()
        started = time.monotonic()
        queues = broker.look()
    except BrokerUnavailable:
        return None, {}
    return time.monotonic() - started, queues


def _of(lately: dict[str, Row], delivery: str, count: str) -> int:
    return int(lately[delivery][count]) if delivery in lately else 0


def _fault(providers: Sequence[Row]) -> str | None:
    said = [f"{row['name']}: {row['pause_reason'] or 'faulty'}" for row in providers]
    return "; ".join(said) or None
