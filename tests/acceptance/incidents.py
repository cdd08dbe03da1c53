"""What goes wrong in a deployment, made to order: queues full of messages and garbage, commands killed in the middle."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from typing import Any

import amqp

from embedq import Client
from embedq.broker import TASK, Broker, broker_at
from embedq.broker.places import is_redis
from embedq.broker.rabbitmq import AMQP_QUEUE_ARGUMENTS
from embedq.model import ArticleDraft, Delivery
from embedq.settings import from_env
from embedq.steward.dispatcher import Dispatcher
from embedq.store import Store
from tests.forked import python
from tests.rabbitmq import connected

from .underload import ROOT, Writer, clean, embedq, facts, wait_until

GARBAGE = 50


def write(deployment: dict[str, str], number: int) -> None:
    with Client(from_env(deployment)) as client:
        client.put([ArticleDraft(f"t{n}", f"text {n}", id=f"b{n:05}") for n in range(number)])


def dispatch(deployment: dict[str, str], store: Store) -> Broker:
    settings = from_env(deployment)
    broker = broker_at(settings.effective_broker_url)
    Dispatcher(store, broker, settings).dispatch()
    return broker


def message(ids: list[int], number: int) -> bytes:
    body = base64.b64encode(json.dumps([[ids], {}, {"callbacks": None}]).encode()).decode()
    headers = {"lang": "py", "task": TASK, "id": f"{number:032}", "eta": None, "retries": 0, "root_id": f"{number:032}"}
    properties = {
        "body_encoding": "base64",
        "delivery_tag": str(number),
        "delivery_mode": 2,
        "priority": 0,
        "correlation_id": str(number),
        "delivery_info": {"exchange": "embedq", "routing_key": "normal"},
    }
    envelope = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(envelope).encode()


def garbage(number: int) -> bytes:
    kinds = [
        b"\xff\xfe %d",
        b'{"body": "%%%%%d", "properties": {"body_encoding": "base64"}}',
        b'{"number": %d}',
        b"[%d]",
        b'"%d',
    ]
    return kinds[number % len(kinds)] % number


def fill(redis: Any, tasks: list[int], messages: int) -> None:
    """Messages for all tasks again and again, and garbage at the end of the line."""
    pipe = redis.pipeline(transaction=False)
    for number in range(messages - GARBAGE):
        pipe.lpush("normal", message([tasks[number % len(tasks)]], number))
        if number % 5000 == 0:
            pipe.execute()
    for number in range(GARBAGE):
        pipe.lpush("low", garbage(number))
    pipe.execute()


def put(broker: Broker, queue: str, raw: bytes) -> None:
    """These bytes into a queue, as another program might."""
    if is_redis(broker.url):
        broker.redis.lpush(queue, raw)
        return
    with connected(broker.url) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=AMQP_QUEUE_ARGUMENTS)
        channel.basic_publish(amqp.Message(raw, delivery_mode=2), routing_key=queue)


def nothing_open(store: Store) -> bool:
    return sum(store.switches.counts().values()) == 0


def all_is_well(deployment: dict[str, str], store: Store, writer: Writer) -> None:
    wait_until(lambda: nothing_open(store), 60, "the end of all tasks")
    verified = embedq(deployment, "verify", "--json")
    assert verified.exit_code == 0, verified.out
    ended = facts(store)
    assert ended["wanted"] == ended["stored"] == writer.written
    assert writer.failures == []


def killed_at(deployment: dict[str, str], step: str) -> None:
    """`rollback emergency` gets SIGKILL as soon as it says that it begins this step."""
    whole = clean() | deployment
    argv = [*python(whole), "-m", "embedq", "rollback", "emergency", "--quiet", "0.3", "--reason", "a test"]
    process = subprocess.Popen(argv, cwd=ROOT, env=whole, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if f" {step}: " in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def done_by(store: Store, delivery: Delivery) -> int:
    row = store.database.one(
        "SELECT count(*) AS done FROM embedding_tasks WHERE status = 'completed' AND delivery = %(delivery)s",
        {"delivery": delivery},
    )
    assert row is not None
    return int(row["done"])
