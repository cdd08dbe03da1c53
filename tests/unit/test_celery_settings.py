"""Celery takes a misspelt setting in silence, so ours are compared with those it knows."""

from __future__ import annotations

import pytest
from celery.app.defaults import NAMESPACES, flatten

import celeryconfig
from embedq.broker import celery_settings, make_app
from embedq.broker.celery_settings import AMQP_SETTINGS, UrgentFirst
from embedq.broker.rabbitmq import AMQP_QUEUE_ARGUMENTS
from embedq.model import Priority


def names(module) -> set[str]:
    return {
        name
        for name in vars(module)
        if name.islower() and not name.startswith("_") and name not in ("annotations", "order", "priority_cycle")
    }


def test_every_setting_is_one_that_celery_knows():
    known = {name for name, _ in flatten(NAMESPACES)}

    assert names(celery_settings) - known == set()


def test_the_deployments_file_holds_the_same_settings():
    assert names(celeryconfig) == names(celery_settings)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_the_app_has_four_queues_named_like_the_priorities_each_bound_to_its_own_name(url):
    app = make_app(url)

    assert [(queue.name, queue.routing_key) for queue in app.conf.task_queues] == [(name, name) for name in Priority]


@pytest.mark.parametrize("publishing_only", [True, False])
@pytest.mark.parametrize("prefix", ["", "scratch."])
def test_on_rabbitmq_everybody_declares_the_same_quorum_queues(publishing_only, prefix):
    app = make_app("amqp://127.0.0.1:1//", publishing_only=publishing_only, prefix=prefix)

    assert list(app.amqp.queues) == [prefix + name for name in Priority]
    for queue in app.amqp.queues.values():
        assert (queue.durable, queue.auto_delete, queue.queue_arguments) == (True, False, AMQP_QUEUE_ARGUMENTS)
    assert AMQP_QUEUE_ARGUMENTS["x-queue-type"] == "quorum"
    assert bool(app.conf.broker_transport_options.get("confirm_publish")) == publishing_only


def test_settings_for_rabbitmq_are_ones_that_celery_knows():
    assert AMQP_SETTINGS.keys() - {name for name, _ in flatten(NAMESPACES)} == set()


def test_a_worker_asks_the_urgent_queue_first_and_sometimes_the_low_one():
    cycle = UrgentFirst()
    cycle.update(["low", "urgent", "normal", "high"])

    first = [cycle.consume(4)[0] for _ in range(16)]

    assert first == ["urgent"] * 15 + ["low"]
    assert cycle.consume(4) == ["urgent", "high", "normal", "low"]
