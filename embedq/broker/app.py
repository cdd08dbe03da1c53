"""The Celery app for a broker's address: the same queues and settings for publishing, consuming, looking and draining."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..addresses import secret_of
from ..model import Priority
from .places import is_redis, place_of

if TYPE_CHECKING:
    from celery import Celery


def make_app(url: str, *, publishing_only: bool = False, prefix: str = "") -> Celery:
    """The Celery app. `publishing_only`: short time-outs, for writers and the steward; workers have longer ones.

    `prefix`: for scratch queues beside the real ones; before every key in Redis, before the names of queues elsewhere.
    """
    return lazy_app(lambda: url, publishing_only=publishing_only, prefix=prefix, set_as_current=not publishing_only)


def lazy_app(url: Callable[[], str], *, publishing_only: bool = False, prefix: str = "", **options: Any) -> Celery:
    """As `make_app`; `url()` is asked when Celery first needs its configuration. `options`: further ones of Celery's."""
    from celery import Celery

    from . import celery_settings as own
    from .connection import Amqp

    app = Celery("embedq", amqp=Amqp, **options)
    app.config_from_object(os.environ.get("CELERY_CONFIG_MODULE") or own)
    # Keys in the form that lets Celery prefer them to the settings module.
    app.add_defaults(lambda: _of_broker(secret_of(url()), publishing_only, prefix))
    return app


def _of_broker(url: str, publishing_only: bool, prefix: str) -> dict[str, Any]:
    """Celery's settings that depend on the broker."""
    from . import celery_settings as own

    place = place_of(url)
    its = {"broker_url": place.url} | ({"broker_use_ssl": place.tls} if place.tls is not None else {})
    if is_redis(url):
        options = own.REDIS_PUBLISH_OPTIONS if publishing_only else own.REDIS_WORKER_OPTIONS
        more = {**place.options, **({"global_keyprefix": prefix} if prefix else {})}
        return {**its, "broker_transport_options": options | more}
    return (
        own.AMQP_SETTINGS
        | its
        | {
            "broker_transport_options": own.AMQP_PUBLISH_OPTIONS if publishing_only else own.AMQP_WORKER_OPTIONS,
            "task_queues": _quorum_queues(prefix),
            "task_default_queue": prefix + Priority.NORMAL,
            "task_default_routing_key": prefix + Priority.NORMAL,
        }
    )


def _quorum_queues(prefix: str) -> list[Any]:
    """Our four queues on RabbitMQ. Every process declares them with the same arguments, because RabbitMQ refuses a declaration that differs."""
    from kombu.entity import Exchange, Queue

    from .rabbitmq import AMQP_QUEUE_ARGUMENTS, EXCHANGE

    exchange = Exchange(EXCHANGE, type="direct")  # type: ignore[no-untyped-call]
    return [
        Queue(prefix + name, exchange, routing_key=prefix + name, durable=True, queue_arguments=dict(AMQP_QUEUE_ARGUMENTS))  # type: ignore[no-untyped-call]
        for name in Priority
    ]
