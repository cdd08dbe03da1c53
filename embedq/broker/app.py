"""The Celery app for a broker's address: the same queues and settings for whoever publishes, consumes, looks or drains."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..model import Priority

if TYPE_CHECKING:
    from celery import Celery


def is_redis(url: str) -> bool:
    return urlsplit(url).scheme.split("+")[0] in ("redis", "rediss", "unix", "sentinel")


def make_app(url: str, *, publishing_only: bool = False, prefix: str = "") -> Celery:
    """The Celery app. `publishing_only`: short time-outs, for writers and the steward; a worker's own are patient.

    `prefix`: for scratch queues beside the real ones; before every key in Redis, before the names of queues elsewhere.
    """
    from celery import Celery

    from .. import celery_settings as own

    app = Celery("embedq", broker=url, set_as_current=not publishing_only)
    app.config_from_object(os.environ.get("CELERY_CONFIG_MODULE") or own)
    app.conf.broker_url = url
    if is_redis(url):
        options = own.REDIS_PUBLISH_OPTIONS if publishing_only else own.REDIS_WORKER_OPTIONS
        app.conf.broker_transport_options = options | ({"global_keyprefix": prefix} if prefix else {})
    else:
        app.conf.broker_transport_options = own.AMQP_PUBLISH_OPTIONS if publishing_only else own.AMQP_WORKER_OPTIONS
        app.conf.update(own.AMQP_SETTINGS)
        app.conf.task_queues = _quorum_queues(prefix)
        app.conf.task_default_queue = app.conf.task_default_routing_key = prefix + Priority.NORMAL
    return app


def _quorum_queues(prefix: str) -> list[Any]:
    """The four as RabbitMQ has them, the same for whoever declares them: it refuses a second declaration that differs."""
    from kombu.entity import Exchange, Queue

    from .amqp import AMQP_QUEUE_ARGUMENTS

    exchange = Exchange("embedq", type="direct")  # type: ignore[no-untyped-call]
    return [
        Queue(prefix + name, exchange, routing_key=prefix + name, durable=True, queue_arguments=dict(AMQP_QUEUE_ARGUMENTS))  # type: ignore[no-untyped-call]
        for name in Priority
    ]
