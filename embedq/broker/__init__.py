"""The broker: publish messages, consume them checked, look at them, drain them. Whatever
it holds may be lost: the table is complete without it (G2).

A message is `embedq.embed` with a list of task ids, on the queue named like their priority. `Broker` is the Protocol, `broker_at` makes the
implementation for a URL; other rooms do not distinguish Redis from RabbitMQ. May be imported by engine and above; uses settings and decide.
"""

from __future__ import annotations

from ..addresses import secret_of, shown
from ..decide.health import MAKE_ANEW
from ..decide.messages import OF
from ..decide.messages import OWN as TASK
from .app import lazy_app, make_app
from .circuit import Circuit
from .places import is_redis
from .protocol import Broker, InBroker
from .rabbitmq import is_refused_declaration
from .rabbitmq_broker import RabbitBroker
from .redis_broker import RedisBroker

__all__ = [
    "MAKE_ANEW",
    "OF",
    "TASK",
    "Broker",
    "Circuit",
    "InBroker",
    "broker_at",
    "is_refused_declaration",
    "lazy_app",
    "make_app",
    "shown",
]


def broker_at(url: str, prefix: str = "") -> Broker:
    """The broker at this address, not connected yet. `prefix`: for scratch queues beside the real ones."""
    return RedisBroker(url, prefix) if is_redis(secret_of(url)) else RabbitBroker(url, prefix)
