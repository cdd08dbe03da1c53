"""RabbitMQ in an alarm: saves go on, publishing gives up in a bounded time, health and status name it, and what waited is published afterwards."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from embedq import Client
from embedq.broker import broker_at
from embedq.broker.peek import peek
from embedq.errors import BrokerUnavailable
from embedq.model import Priority
from embedq.settings import from_env
from tests.rabbitmq import emptied, in_memory_alarm
from tests.support import run_command, start_celery, until

pytestmark = pytest.mark.rabbitmq


@contextmanager
def alarmed():
    """The whole server takes no messages, for a moment: other users of this machine wait so long."""
    with in_memory_alarm() as begun:
        if not begun:
            pytest.skip("rabbitmqctl may not change this RabbitMQ's limits")
        yield


def test_an_alarm_is_named_and_saves_go_on(environment, rabbitmq_url):
    ours = environment | {"EMBEDDING_BROKER_URL": rabbitmq_url}
    with Client(from_env(ours)) as client:
        with alarmed():
            until(lambda: peek(rabbitmq_url).states, 5, lambda: peek(rabbitmq_url))
            began = time.monotonic()
            client.create("Tea", "green", id="a")
            saved_s = time.monotonic() - began
            with pytest.raises(BrokerUnavailable):
                broker_at(rabbitmq_url).publish([(Priority.NORMAL, [1])])
            gave_up_s = time.monotonic() - began - saved_s
            seen = peek(rabbitmq_url)
            health = run_command(ours, "health")

        (state,) = seen.states
        assert seen.reachable and state.refuses and "alarm" in state.what and "rabbitmq-diagnostics" in state.next
        assert "is in an alarm" in health.stdout and health.returncode == 1
        assert saved_s < 2.0 and gave_up_s < 10.0
        assert peek(rabbitmq_url).states == []
        with start_celery(ours):
            until(lambda: client.get("a").embedding_status == "ready", 60)
    emptied(rabbitmq_url)
