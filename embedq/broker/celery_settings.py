"""Celery's settings, each with its reason. `celeryconfig.py` of a deployment may override them; `broker.make_app` adds the URL.

What is known about Celery on Redis, tried out: docs/why/celery.rst.
"""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue
from kombu.utils.scheduling import priority_cycle

from ..decide.priority import order
from ..model import Priority

VISIBILITY_S = 600


class UrgentFirst(priority_cycle):
    """The order in which a worker asks its queues: the most urgent first, and once in a while the other way round."""

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

# A message is acknowledged after its tasks are settled; a worker takes one message a thread, or an urgent one would wait behind eight.
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

# Publishing fails at once when the broker is away: the table keeps the task, and a writer must not wait (G7).
task_publish_retry = False

# Workers, on the other hand, never give up.
broker_connection_max_retries = None
broker_connection_retry_on_startup = True
broker_channel_error_retry = True
# What is being embedded when the broker goes away settles in the table. (True: on the pool of threads, which cannot cancel, the worker exits.)
worker_cancel_long_running_tasks_on_connection_loss = False

# Long waits live in the table, not in a worker's memory.
worker_eta_task_limit = None
worker_soft_shutdown_timeout = 60.0

# Events halve the throughput; Flower shows workers and queues without them.
worker_send_task_events = False
task_send_sent_event = False

worker_hijack_root_logger = False
# Its colours are escapes in a line, as a stranger's would be.
worker_log_color = False
worker_enable_remote_control = True
worker_pool = "threads"

_patient: dict[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_connections": 200,
}

REDIS_WORKER_OPTIONS: dict[str, Any] = _patient | {
    "queue_order_strategy": "embedq.broker.celery_settings.UrgentFirst",
    # Steps would outrank the order of queues; one step, and never a message priority.
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
# No confirmations here: what Celery itself sends are its signs of life, from the thread that also minds the connection; on a link that
# is half open it would wait for ever. Tasks are published with AMQP_PUBLISH_OPTIONS, from workers too.
# The time-outs end what it asks and waits for (a new prefetch count, say) on such a link; its event loop, which heartbeats watch over, never waits.
AMQP_WORKER_OPTIONS: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 10, "write_timeout": 10}
AMQP_SETTINGS: dict[str, Any] = {
    # A worker's, seconds: a half-open link is noticed after two of them without a sign of life.
    "broker_heartbeat": 10,
    # From each queue, for a thread: the one it works on, and the next, so that an urgent message is there when the thread is free.
    "worker_prefetch_multiplier": 2,
    # Celery would lower the prefetch after a reconnection and could not raise it again: a consumer keeps the prefetch it began with.
    "worker_enable_prefetch_count_reduction": False,
    # For remote control and events. RabbitMQ 4.3 refuses queues that are neither durable nor one connection's own; these expire.
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
