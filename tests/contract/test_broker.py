"""The broker is disposable: drained, killed in the middle, refilled, backed up, and nothing is lost. Redis and RabbitMQ alike."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embedq import Client
from embedq.broker import TASK, Broker, broker_at
from embedq.broker.rabbitmq import AMQP_QUEUE_ARGUMENTS
from embedq.errors import NotWell
from embedq.model import ArticleDraft, Mode, Priority
from embedq.operations.rollback.drain import back_up, compared, drain, rebuild
from embedq.settings import Settings
from embedq.store import Store
from tests.rabbitmq import RABBITMQ, rabbitmq_is_there
from tests.redisprocess import of_the_machine, own_redis, redis_6_2

ROOT = Path(__file__).resolve().parents[2]
Hand = Callable[[str, bytes, dict[str, object]], None]


@pytest.fixture(scope="session")
def other_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of the versions of Redis that this machine has."""
    programs = {"redis 6.2": redis_6_2(), "redis 7": of_the_machine()}
    with ExitStack() as running:
        yield {
            name: running.enter_context(own_redis(tmp_path_factory.mktemp("redis"), program)).url
            for name, program in programs.items()
            if program is not None
        }


@pytest.fixture(params=["embedded", "redis 6.2", "redis 7", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request: pytest.FixtureRequest, redis_url: str, other_redis: dict[str, str]) -> Iterator[Broker]:
    """Queues of its own in each broker, empty before and gone afterwards."""
    if request.param == "rabbitmq" and not rabbitmq_is_there():
        pytest.skip("no RabbitMQ is reachable")
    urls = other_redis | {"embedded": redis_url, "rabbitmq": RABBITMQ}
    if request.param not in urls:
        pytest.skip(f"this machine has no {request.param}")
    made = broker_at(urls[request.param], prefix=f"embedq-test-{os.getpid()}.")
    made.empty()
    yield made
    made.empty()
    made.close()


@pytest.fixture
def hand(broker: Broker) -> Hand:
    """Put raw bytes into a queue as another program might: body and headers as they are."""

    def put(queue: str, body: bytes, headers: dict[str, object] | None = None, content_type: str = "application/json") -> None:
        if broker.url.startswith("redis"):
            envelope = {
                "body": base64.b64encode(body).decode(),
                "content-type": content_type,
                "content-encoding": "utf-8",
                "headers": headers or {},
                "properties": {"body_encoding": "base64", "delivery_tag": "t"},
            }
            broker.redis.lpush(broker.prefix + queue, json.dumps(envelope))
            return
        with broker.app.connection_for_write() as connection:
            channel = connection.channel()
            channel.queue_declare(broker.prefix + queue, durable=True, auto_delete=False, arguments=AMQP_QUEUE_ARGUMENTS)
            import amqp

            message = amqp.Message(body, content_type=content_type, application_headers=headers or {})
            channel.basic_publish(message, exchange="", routing_key=broker.prefix + queue)

    return put


def with_open_tasks(store: Store, client: Client, number: int) -> list[int]:
    client.put([ArticleDraft(f"t{n}", f"text {n}", id=f"a{n:05}") for n in range(number)])
    return [row["id"] for row in store.database.fetch("SELECT id FROM embedding_tasks ORDER BY id")]


def dispatched_to(broker: Broker, store: Store, settings: Settings) -> int:
    from embedq.steward.dispatcher import Dispatcher

    return Dispatcher(store, broker, settings).dispatch()


def in_broker(broker: Broker) -> int:
    return sum(queue.waiting + queue.unacknowledged for queue in broker.look().values())


def rejected(store: Store) -> list[str]:
    return [row["reason"] for row in store.database.fetch("SELECT reason FROM embedding_rejected_messages ORDER BY reason")]


@pytest.fixture
def quiet_client(settings: Settings, store: Store) -> Iterator[Client]:
    """Writes articles without publishing anything itself."""
    store.status.set_mode(Mode.DATABASE, "test", "test")
    with Client(settings) as opened:
        yield opened


@pytest.fixture
def tasks(store: Store, quiet_client: Client) -> list[int]:
    return with_open_tasks(store, quiet_client, 250)


def test_a_drain_frees_every_task_that_was_with_the_broker(
    broker: Broker, store: Store, settings: Settings, tasks: list[int]
) -> None:
    store.status.set_mode(Mode.CELERY, "test", "test")
    assert dispatched_to(broker, store, settings) == len(tasks)
    store.status.set_mode(Mode.DATABASE, "test", "test")

    done = drain(store, broker, quiet_s=0.3)

    assert (done.freed, done.rejected) == (len(tasks), 0)
    assert store.switches.counts()["free"] == len(tasks)
    assert in_broker(broker) == 0


def test_what_nobody_understands_is_kept_raw_and_never_dropped(
    broker: Broker, store: Store, hand: Hand, tasks: list[int]
) -> None:
    hand("low", b"\xff\xfenot json", {"task": TASK, "id": "1"})
    hand("low", json.dumps([[[10**12]], {}, {}]).encode(), {"task": TASK, "id": "2"})
    hand("urgent", json.dumps([["x"], {}, {}]).encode(), {"task": "another.task", "id": "3"})
    hand("normal", json.dumps([[[1]], {}, {}]).encode(), {})
    hand("normal", b"cos\nsystem\n(S'true'\ntR.", {"task": TASK}, content_type="application/x-python-serialize")

    done = drain(store, broker, quiet_s=0.3)

    assert (done.messages, done.rejected, in_broker(broker)) == (5, 5, 0)
    assert rejected(store) == [
        "it names tasks that are not in the table",
        "the body is application/x-python-serialize, not JSON",
        "the body is not JSON",
        "the message names no task",
        "the task another.task is not ours",
    ]


def test_a_foreign_message_that_names_a_known_article_becomes_its_task(
    broker: Broker, store: Store, hand: Hand, tasks: list[int]
) -> None:
    store.database.execute("DELETE FROM embedding_tasks")
    hand("normal", json.dumps([[], {"article_id": "a00001"}, {}]).encode(), {"task": "app.generate_embedding", "id": "1"})
    hand("high", json.dumps([["a00002"], {}, {}]).encode(), {"task": "embed_document", "id": "2"})
    hand("high", json.dumps([["nobody"], {}, {}]).encode(), {"task": "embed_document", "id": "3"})

    done = drain(store, broker, quiet_s=0.3)

    made = store.database.fetch("SELECT article_id FROM embedding_tasks WHERE status = 'pending' ORDER BY 1")
    assert [row["article_id"] for row in made] == ["a00001", "a00002"]
    assert (done.made, rejected(store)) == (2, ["embed_document names no article that is known"])


def test_a_backup_has_every_message_and_takes_none(
    broker: Broker, store: Store, settings: Settings, tasks: list[int], hand: Hand, tmp_path: Path
) -> None:
    store.status.set_mode(Mode.CELERY, "test", "test")
    dispatched_to(broker, store, settings)
    hand("low", b"\xff", {})
    before = in_broker(broker)

    written = back_up(broker, tmp_path / "broker.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "broker.jsonl").read_text().splitlines()]
    assert (written, len(lines)) == (before, before)
    wait_until(lambda: in_broker(broker) == before)


def test_the_quiet_since_the_fence_counts_for_a_broker_that_is_empty_and_only_for_that(
    broker: Broker, hand: Hand, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.status.set_mode(Mode.DATABASE, "test", "test")
    naps: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (naps.append(seconds), sleep(seconds))[1])
    long_ago = time.monotonic() - 60

    drain(store, broker, quiet_s=1.5, fenced_at=long_ago)
    empty_s, naps[:] = sum(naps), []
    hand("low", b"\xff", {})
    drained = drain(store, broker, quiet_s=1.5, fenced_at=long_ago)

    assert drained.messages == 1
    assert empty_s <= 0.7  # watched a little in any case
    assert sum(naps) > 0.7  # what came shows that more may come: the whole quiet


def test_a_rebuild_publishes_every_open_task_once(broker: Broker, store: Store, settings: Settings, tasks: list[int]) -> None:
    store.status.set_mode(Mode.CELERY, "test", "test")
    dispatched_to(broker, store, settings)
    broker.empty()

    done = rebuild(store, broker, settings)

    assert (done.freed, done.dispatched, done.left_in_table) == (len(tasks), len(tasks), 0)
    named: list[int] = []
    broker.drain(lambda _, page: named.extend(task for raw in page for task in ids_in(raw)), quiet_s=0.3)
    assert sorted(named) == tasks


def test_a_rebuild_leaves_in_the_table_what_the_broker_has_no_room_for(
    broker: Broker, store: Store, environment: dict[str, str], tasks: list[int]
) -> None:
    from embedq.settings import from_env

    small = from_env(
        environment | {"EMBEDDING_QUEUE_MAX_DEPTH": "100", "EMBEDDING_TENANT_MAX_PENDING": "100", "EMBEDDING_BATCH_SIZE": "10"}
    )
    store.status.set_mode(Mode.CELERY, "test", "test")

    done = rebuild(store, broker, small)

    assert (done.dispatched, done.left_in_table) == (100, len(tasks) - 100)


def test_a_rebuild_is_refused_while_the_mode_sends_nothing_to_the_broker(
    broker: Broker, store: Store, settings: Settings, tasks: list[int]
) -> None:
    with pytest.raises(NotWell):
        rebuild(store, broker, settings)


def test_the_broker_is_compared_with_the_table(broker: Broker, store: Store, settings: Settings, tasks: list[int]) -> None:
    store.status.set_mode(Mode.CELERY, "test", "test")
    dispatched_to(broker, store, settings)

    normal = next(row for row in compared(store, broker) if row["queue"] == "normal")

    assert (normal["waiting"], normal["tasks_with_broker"], normal["consumers"]) == (3, 250, 0)
    assert 0 <= normal["oldest_s"] < 60


def test_one_drain_at_a_time(broker: Broker, store: Store, tasks: list[int]) -> None:
    with store.switches.alone("drain", "wait"), pytest.raises(NotWell):
        drain(store, broker, quiet_s=0.0, patience_s=0.1)


DRAINER = """
import sys
from embedq.broker import Broker, broker_at
from embedq.broker import rabbitmq, redis
from embedq.store import Store
from embedq.store.database import Database
from embedq.operations.rollback.drain import drain
redis.AT_ONCE = rabbitmq.AT_ONCE = 20
store = Store(Database(sys.argv[1]))
drain(store, broker_at(sys.argv[2], prefix=sys.argv[3]), quiet_s=0.3, say=lambda line: print(line, flush=True))
print("ended", flush=True)
"""


def test_nothing_is_lost_when_the_drainer_is_killed_again_and_again(
    broker: Broker, store: Store, quiet_client: Client, settings: Settings, hand: Hand, database_url: str
) -> None:
    tasks = with_open_tasks(store, quiet_client, 600)
    store.status.set_mode(Mode.CELERY, "test", "test")
    store.database.execute("UPDATE embedding_tasks SET dispatched_at = now()")
    broker.publish((Priority.NORMAL, [task]) for task in tasks)
    for number in range(40):
        hand("high", f"poison {number}".encode(), {"task": TASK})
    store.status.set_mode(Mode.DATABASE, "test", "test")

    kills = 0
    while not killed_after_lines(database_url, broker, lines=4):
        kills += 1

    assert kills >= 4
    assert in_broker(broker) == 0
    assert store.switches.counts() == {"free": 600, "with_broker": 0, "held_by_celery": 0, "held_by_poller": 0}
    assert store.rejected.count() == 40


def killed_after_lines(database_url: str, broker: Broker, lines: int) -> bool:
    """Start a drainer, kill it when it has said so many lines. True when it ended by itself before."""
    argv = [sys.executable, "-c", DRAINER, database_url, broker.url, broker.prefix]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    for _ in range(lines):
        line = process.stdout.readline()
        if line.startswith("ended"):
            process.communicate()
            return True
        if not line:
            # The lock of the one that was killed a moment ago may still be held by its dying session.
            assert "another process is doing this now" in process.communicate()[1]
            return False
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return False


def ids_in(raw: bytes) -> list[int]:
    from embedq.broker.redis import task_ids

    return list(task_ids(raw))


def wait_until(fact: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"not seen within {within_s:g} s"
        time.sleep(0.02)
