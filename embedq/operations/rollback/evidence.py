"""Gathers the facts that `decide.assess` judges. Every wait has a time-out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ...broker import Broker, InBroker
from ...broker.peek import peek
from ...decide.assess import Facts
from ...decide.circuit_breaker import ProviderState
from ...errors import BrokerUnavailable
from ...store import Store
from ...store.database import Row
from ...store.misfits import KINDS

HOUR_S = 3600.0


def gather(store: Store, broker: Broker) -> Facts:
    """The facts of this moment, for `decide.assess`."""
    live = store.status.live()
    answers_in_s, queues = _ask(broker)
    alive = [worker["delivery"] for worker in store.workers.all() if worker["alive"]]
    lately = {row["delivery"]: row for row in store.procedures.deliveries_lately(HOUR_S)}
    audit = store.procedures.audit_lately(HOUR_S)
    with_broker, verified = store.procedures.oldest_with_broker(), store.care.verify()
    return Facts(
        mode=live.mode,
        is_running=live.is_running,
        live_row_missing=live.missing,
        broker_answers=answers_in_s is not None,
        broker_answers_in_s=answers_in_s,
        queues_of_another_kind=tuple(name for name, queue in queues.items() if queue.of_another_kind),
        messages_waiting=sum(queue.waiting + queue.unacknowledged for queue in queues.values()),
        celery_workers=alive.count("celery"),
        pollers=alive.count("poller"),
        open_tasks=sum(store.switches.counts().values()),
        oldest_unclaimed_s=max((row["oldest_s"] for row in with_broker.values()), default=None),
        celery_done_lately=_of(lately, "celery", "completed"),
        celery_done_s_ago=lately["celery"]["completed_s_ago"] if "celery" in lately else None,
        celery_failed_lately=_of(lately, "celery", "failed"),
        poller_done_lately=_of(lately, "poller", "completed"),
        poller_failed_lately=_of(lately, "poller", "failed"),
        rescues_lately=audit.get(("rescue", "warning"), 0),
        lost_messages_lately=store.procedures.lost_messages_lately(HOUR_S),
        provider_fault=_fault(store.providers.troubled()),
        integrity_problems=tuple(verified["problems"]),
        integrity_compromised=any(verified[kind] for kind in KINDS),
        broker_refuses=peek(broker.url).refuses if queues else "",
    )


def _ask(broker: Broker) -> tuple[float | None, Mapping[str, InBroker]]:
    """The broker's response time and answer. The second query is timed, because the first includes imports."""
    try:
        broker.look()
        started = time.monotonic()
        queues = broker.look()
    except BrokerUnavailable:
        return None, {}
    return time.monotonic() - started, queues


def _of(lately: dict[str, Row], delivery: str, count: str) -> int:
    return int(lately[delivery][count]) if delivery in lately else 0


def _fault(providers: Sequence[ProviderState]) -> str | None:
    said = [f"{each.name}: {each.why or 'faulty'}" for each in providers]
    return "; ".join(said) or None
