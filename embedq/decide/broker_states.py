"""States of a broker in which it answers but loses or refuses messages, derived from what it reports (Redis: INFO). Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MODE_DATABASE: Final = "`embedq mode database --reason …` works without it meanwhile"


NEIGHBOURS: Final = "another installation of embedq uses the same broker, and each takes the other's messages"
OF_ITS_OWN: Final = (
    "give each a broker of its own in REDIS_URL or EMBEDDING_BROKER_URL of all its processes, or a part of one: a database of Redis"
    " (redis://host:6379/1), a virtual host of RabbitMQ (amqp://host:5672/staging)"
)


@dataclass(frozen=True, slots=True)
class BrokerState:
    """`what` completes a sentence that begins "the broker". `refuses`: messages cannot be published or delivered; otherwise some may be
    lost, which only delays tasks."""

    what: str
    next: str
    refuses: bool


def parsed(info: str) -> dict[str, str]:
    """The answer to INFO as names and values."""
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line and not line.startswith("#"))


def states(info: Mapping[str, str], shared: str = "") -> Sequence[BrokerState]:
    """`shared`: names of the installations that use the broker, if there are several."""
    return [*shared_by(shared), *_replica(info), *_full(info), *_evicts(info), *_cannot_save(info), *_loads(info)]


def shared_by(names: str) -> Iterator[BrokerState]:
    """Of several installations."""
    if names:
        yield BrokerState(
            f"is used by several installations ({names}), and each takes the other's messages", OF_ITS_OWN, refuses=True
        )


def in_alarm(told: str) -> Iterator[BrokerState]:
    """The state while RabbitMQ reports a resource alarm."""
    if told:
        yield BrokerState(
            f"is in an alarm and takes no messages ({told})",
            "`rabbitmq-diagnostics alarms` names the node; give it memory or disk, or raise its limits (vm_memory_high_watermark,"
            f" disk_free_limit); {MODE_DATABASE}",
            refuses=True,
        )


def _replica(info: Mapping[str, str]) -> Iterator[BrokerState]:
    if info.get("role") == "slave":
        master = f"{info.get('master_host', '')}:{info.get('master_port', '')}"
        yield BrokerState(
            f"is a replica of {master}, which takes no writes (READONLY)",
            f"name its master, or its Sentinels (sentinel://…), in EMBEDDING_BROKER_URL; {MODE_DATABASE}",
            refuses=True,
        )


def _full(info: Mapping[str, str]) -> Iterator[BrokerState]:
    most = _number(info, "maxmemory")
    if most and info.get("maxmemory_policy") == "noeviction" and _number(info, "used_memory") >= most:
        yield BrokerState(
            "is full (maxmemory, noeviction) and takes no messages",
            f"raise maxmemory, or take out what fills it; {MODE_DATABASE}",
            refuses=True,
        )


def _evicts(info: Mapping[str, str]) -> Iterator[BrokerState]:
    policy = info.get("maxmemory_policy", "")
    if _number(info, "maxmemory") and policy.startswith("allkeys"):
        yield BrokerState(
            f"throws away whole queues when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy to noeviction, or give embedq a Redis of its own; what is lost is dispatched again",
            refuses=False,
        )


def _cannot_save(info: Mapping[str, str]) -> Iterator[BrokerState]:
    """Redis then refuses writes if stop-writes-on-bgsave-error is on (the default); after a failed write of the append-only file it always does."""
    if "err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status")):
        yield BrokerState(
            "could not save its data to disk, and refuses messages (MISCONF)",
            f"look into its log and at its disk; {MODE_DATABASE}",
            refuses=True,
        )


def _loads(info: Mapping[str, str]) -> Iterator[BrokerState]:
    if info.get("loading") == "1":
        yield BrokerState("is still loading its data", "wait until it has: tasks wait in the table", refuses=True)


def _number(info: Mapping[str, str], name: str) -> int:
    value = info.get(name, "0")
    return int(value) if value.isdigit() else 0
