"""Celery's settings, each with its reason. `celeryconfig.py` of a deployment may override them; `broker.make_app` adds the URL.

Measured properties of Celery on Redis: docs/why/celery.rst.
"""

from __future__ import annotations

import re as _re
import sys as _sys
from typing import Any

from kombu.entity import Exchange, Queue
from kombu.utils.scheduling import priority_cycle

from ..decide.priority import order
from ..model import Priority

VISIBILITY_S = 600


class UrgentFirst(priority_cycle):
    """The order in which a worker asks its queues: the most urgent first, and now and then in reverse, so that low tasks are not starved."""

    def __init__(self, it: list[str] | None = None) -> None:
        super().__init__(it)  # type: ignore[no-untyped-call]
        self.turn = 0

    def consume(self, n: int) -> list[str]:
        self.turn += 1
        rank = {name.value: place for place, name in enumerate(order(self.turn))}
        return sorted(self.items[:n], key=lambda name: rank.get(name, len(rank)))


# Queues whose routing key is their name: as bare strings Celery would bind them all to one key.
_exchange = Exchange("embedq", type="direct")  # type: ignore[no-untyped-call]
task_queues = [Queue(name.value, _exchange, routing_key=name.value) for name in Priority]  # type: ignore[no-untyped-call]
task_default_queue = Priority.NORMAL.value
task_default_exchange = "embedq"
task_default_routing_key = Priority.NORMAL.value
task_create_missing_queues = False

# A message is acknowledged after its tasks are settled; a worker reserves one message per thread, so that urgent ones do not wait behind others.
task_acks_late = True
task_reject_on_worker_lost = True
worker_prefetch_multiplier = 1

# Messages are task ids in JSON; no result is stored, because no program reads one.
task_serializer = "json"
accept_content = ["json"]
task_ignore_result = True
result_backend = None

# On RabbitMQ the prefetch is then each consumer's own: quorum queues refuse one for the whole channel.
worker_detect_quorum_queues = True

# Publishing fails at once when the broker cannot be reached: the task is in the table, and a writer must not wait (G7).
task_publish_retry = False

# Workers retry the connection without limit.
broker_connection_max_retries = None
broker_connection_retry_on_startup = True
broker_channel_error_retry = True
# Tasks in flight when the connection is lost are settled in the table. (With True a worker with a thread pool, which cannot cancel tasks, exits.)
worker_cancel_long_running_tasks_on_connection_loss = False

# Tasks that are due later wait in the table, not in a worker's memory.
worker_eta_task_limit = None
worker_soft_shutdown_timeout = 60.0

# Events halve the throughput; Flower shows workers and queues without them.
worker_send_task_events = False
task_send_sent_event = False

worker_hijack_root_logger = False
# Colours are escape sequences, which our log format shows as text.
worker_log_color = False
worker_enable_remote_control = True
# Celery takes `--pool prefork`, its own default, for not given where the configuration names a pool; who asks for it gets it.
_PREFORK = _re.compile(r"(?:^| )(?:-P ?|--pool[= ])prefork(?: |$)")
worker_pool = "prefork" if _PREFORK.search(" ".join(_sys.argv[1:])) else "threads"

_patient: dict[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_connections": 200,
}

REDIS_WORKER_OPTIONS: dict[str, Any] = _patient | {
    "queue_order_strategy": "embedq.broker.celery_settings.UrgentFirst",
    # One step, because priority steps would take precedence over the order of the queues; messages have no priority.
    "priority_steps": [0],
    "visibility_timeout": VISIBILITY_S,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
}
REDIS_PUBLISH_OPTIONS: dict[str, Any] = REDIS_WORKER_OPTIONS | {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 0.5,
    "max_retries": 0,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
    "connect_retries_timeout": 1,
}
# No publisher confirms here: a worker itself publishes only events, from the thread that also reads the connection; on a half-open
# connection it would wait for a confirm for ever. Tasks are published with AMQP_PUBLISH_OPTIONS, from workers too.
# The time-outs bound synchronous requests (a new prefetch count, for example) on such a connection; the event loop is watched by heartbeats.
AMQP_WORKER_OPTIONS: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 10, "write_timeout": 10}
AMQP_SETTINGS: dict[str, Any] = {
    # Seconds, of workers: a half-open connection is closed after two heartbeats without an answer.
    "broker_heartbeat": 10,
    # Per queue and thread: the message in work and the next one, so that an urgent message is available when the thread is free.
    "worker_prefetch_multiplier": 2,
    # Celery would lower the prefetch after a reconnection and could not raise it again, because a consumer keeps the prefetch it was started with.
    "worker_enable_prefetch_count_reduction": False,
    # For remote control and events. RabbitMQ 4.3 refuses queues that are neither durable nor exclusive; these expire.
    "control_queue_durable": True,
    "event_queue_durable": True,
}
AMQP_PUBLISH_OPTIONS: dict[str, Any] = {
    "max_retries": 0,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
    "connect_timeout": 1,
    "read_timeout": 2,
    "write_timeout": 2,
    "confirm_publish": True,
}
