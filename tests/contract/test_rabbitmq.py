"""What holds on RabbitMQ alone: quorum queues declared alike by everybody, the urgent first, poison, an old queue in the way."""

from __future__ import annotations

import json
import time
from contextlib import closing

import amqp
import pytest
from kombu import Connection
from kombu.asynchronous import Hub

from embedq.broker import MAKE_ANEW, TASK, broker_at, is_refused_declaration
from embedq.broker.celery_settings import AMQP_WORKER_OPTIONS
from embedq.broker.peek import peek
from embedq.broker.rabbitmq import AMQP_QUEUE_ARGUMENTS
from embedq.broker.rabbitmq_consumer import AGAIN_S
from embedq.errors import BrokerUnavailable
from embedq.model import Priority
from embedq.operations.rollback.drain import drain
from tests.acceptance.service import serving
from tests.rabbitmq import connected, link
from tests.support import run_command, start_celery, until

from .conftest import ON_RABBITMQ

pytestmark = pytest.mark.rabbitmq
STRANGE = [
    (b"\xff\xfe no text at all", {"task": TASK, "id": "1"}, "application/json"),
    (b"not json", {"task": TASK, "id": "2"}, "application/json"),
    (b"[]", {}, "application/json"),
    (json.dumps([[[1]], {}, {}]).encode(), {"task": "somebody.else", "id": "3"}, "application/json"),
    (b"cos\nsystem\n(S'true'\ntR.", {"task": TASK, "id": "4"}, "application/x-python-serialize"),
    (json.dumps([["no ids"], {}, {}]).encode(), {"task": TASK, "id": "5"}, "application/json"),
]


@pytest.fixture
def on_rabbitmq(environment, rabbitmq_url):
    return environment | {"EMBEDDING_BROKER_URL": rabbitmq_url, "EMBEDDING_CONCURRENT_WORKERS": "2"}


@pytest.fixture
def broker(rabbitmq_url):
    made = broker_at(rabbitmq_url)
    yield made
    made.close()


@pytest.fixture
def channel(rabbitmq_url):
    with connected(rabbitmq_url) as connection:
        yield connection.channel()


def put(channel, queue, body, headers, content_type="application/json"):
    channel.basic_publish(
        amqp.Message(body, content_type=content_type, application_headers=headers, delivery_mode=2), routing_key=queue
    )


def is_quorum(channel, queue):
    """Raises what RabbitMQ raises when it is declared otherwise, or not there."""
    return channel.queue_declare(queue, durable=True, auto_delete=False, arguments=AMQP_QUEUE_ARGUMENTS, passive=False)


def queues_of(connection_url):
    with connected(connection_url) as connection:
        found = []
        for queue in [*Priority, "celery", *(f"celery_delayed_{number}" for number in range(28))]:
            try:
                connection.channel().queue_declare(queue, passive=True)
                found.append(str(queue))
            except amqp.NotFound:
                pass
    return found


def test_publisher_and_worker_declare_the_same_four_quorum_queues_and_no_others(on_rabbitmq, broker, channel, psql):
    broker.publish((queue, [1]) for queue in Priority)

    with start_celery(on_rabbitmq) as worker:
        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=worker.output)

    assert queues_of(broker.url) == list(Priority)
    for queue in Priority:
        is_quorum(channel, queue)


def test_a_publisher_notices_that_a_queue_is_gone_and_declares_it_anew(broker, channel):
    broker.publish([(Priority.LOW, [1])])
    channel.queue_delete("low")

    with pytest.raises(BrokerUnavailable):
        broker.publish([(Priority.LOW, [2])])
    broker.circuit.worked()
    broker.publish([(Priority.LOW, [2])])

    assert broker.look()["low"].waiting == 1


def test_a_message_may_be_returned_as_often_as_anybody_likes(broker, channel):
    broker.publish([(Priority.LOW, [1])])

    for _ in range(30):
        message = until(lambda: channel.basic_get("low"))
        channel.basic_reject(message.delivery_tag, requeue=True)

    until(lambda: broker.look()["low"].waiting == 1)


def test_a_backup_holds_more_messages_than_a_quorum_queue_gives_without_being_told_how_many(broker, channel):
    is_quorum(channel, "low")
    for number in range(2500):
        put(channel, "low", json.dumps([[[number]], {}, {}]).encode(), {"task": TASK, "id": str(number)})
    until(lambda: broker.look()["low"].waiting == 2500)

    copied = list(broker.messages())

    assert len(copied) == 2500
    until(lambda: broker.look()["low"].waiting == 2500)


@pytest.mark.parametrize("place", [ON_RABBITMQ], indirect=True, scope="module")
def test_a_worker_on_all_queues_takes_the_urgent_first_and_the_low_now_and_then(fresh):
    fresh.standin.control(latency_ms=30)
    fresh.environment["EMBEDDING_BATCH_SIZE"] = "1"  # or the first of the low would bring the others along
    fresh.add({f"a{number}": f"text {number}" for number in range(40)})
    fresh.sql("UPDATE embedding_tasks SET dispatched_at = now(), priority = CASE WHEN id % 2 = 0 THEN 'low' ELSE 'urgent' END")
    tasks = fresh.sql("SELECT priority, id FROM embedding_tasks ORDER BY id")
    with closing(broker_at(fresh.environment["EMBEDDING_BROKER_URL"])) as broker:
        broker.publish((Priority(priority), [task]) for priority, task in tasks)

    fresh.start(concurrency=1)

    assert fresh.until_idle() == {"completed": 40}
    order = [priority for (priority,) in fresh.sql("SELECT priority FROM embedding_tasks ORDER BY processed_at, id")]
    before_the_last_urgent = order[: 39 - order[::-1].index("urgent")]
    # The sixteenth turn is the low queue's, and the first messages may be delivered before the other queues are consumed. Meanwhile the
    # thread for the urgent has taken some of them, whose messages count as turns. In turn with the low, it would be nineteen.
    assert 1 <= before_the_last_urgent.count("low") <= 5, order


def test_what_celery_cannot_take_is_kept_from_every_queue_and_the_worker_goes_on(on_rabbitmq, broker, channel, store, psql):
    with start_celery(on_rabbitmq) as worker:
        for queue in Priority:
            for body, headers, content_type in STRANGE:
                put(channel, queue, body, headers, content_type)

        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=worker.output)
        until(lambda: store.rejected.count() == len(STRANGE) * 4, why=lambda: (store.rejected.by_reason(), worker.output()))
        until(lambda: all(queue.waiting == 0 for queue in broker.look().values()))
        assert worker.runs
    assert all(queue.waiting == 0 for queue in broker.look().values()), "something came back when the worker was gone"


def test_what_cannot_be_kept_now_is_kept_later(on_rabbitmq, broker, channel, store, psql):
    with start_celery(on_rabbitmq) as worker:
        psql("ALTER TABLE embedding_rejected_messages RENAME TO away")
        put(channel, "high", *STRANGE[0])
        worker.says("waits for the table")
        psql("ALTER TABLE away RENAME TO embedding_rejected_messages")

        until(lambda: store.rejected.count() == 1, why=worker.output)
        until(lambda: broker.look()["high"].unacknowledged == 0, why=worker.output)
    assert broker.look()["high"].waiting == 0


def test_a_message_without_an_id_is_taken_as_a_hint(on_rabbitmq, channel, store, psql):
    psql("UPDATE embedding_worker_status SET is_running = false")
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
    ((task,),) = psql("SELECT id FROM embedding_tasks")
    psql("UPDATE embedding_tasks SET dispatched_at = now()")
    psql("UPDATE embedding_worker_status SET is_running = true")

    with start_celery(on_rabbitmq) as worker:
        put(channel, "normal", json.dumps([[[task]], {}, {}]).encode(), {"task": TASK})

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=worker.output)
    assert store.rejected.count() == 0


@pytest.fixture
def classic(channel):
    """A queue of an earlier version, with a message that says nothing to anybody."""
    channel.queue_declare("normal", durable=True, auto_delete=False)
    put(channel, "normal", b"old", {"task": TASK})
    return "normal"


def test_an_old_queue_is_named_and_a_drain_makes_it_anew(classic, on_rabbitmq, broker, channel, store, psql):
    with pytest.raises(BrokerUnavailable) as refused:
        broker.publish([(Priority.NORMAL, [1])])
    assert "broker drain" in refused.value.hint
    broker.circuit.worked()
    assert broker.of_another_kind() == [classic]
    shown = run_command(on_rabbitmq, "broker", "status", "--json")
    assert (shown.returncode, json.loads(shown.stdout)["of_another_kind"]) == (3, [classic])

    done = drain(store, broker, quiet_s=0.0)

    assert (done.messages, done.rejected) == (1, 1)
    assert broker.of_another_kind() == []
    broker.publish([(Priority.NORMAL, [1])])
    is_quorum(channel, classic)


FIRST_LOOKS = [("status", 0), ("health", 1), ("alerts check", 3), ("rollback assess", 3)]


@pytest.mark.parametrize(("look", "code"), FIRST_LOOKS, ids=[look for look, _ in FIRST_LOOKS])
def test_an_operators_first_look_names_an_old_queue_before_what_it_is_the_cause_of(classic, on_rabbitmq, psql, look, code):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

    shown = run_command(on_rabbitmq, *look.split(), "--json")

    told = json.loads(shown.stdout)
    assert shown.returncode == code, shown.stdout + shown.stderr
    first = (told.get("findings") or told["alerts"])[0]
    assert "of another kind than ours" in json.dumps(first)
    assert classic in json.dumps(first)
    assert first["next"] == MAKE_ANEW


def test_the_service_tells_of_an_old_queue_to_monitors_and_operators(classic, on_rabbitmq):
    with serving(on_rabbitmq) as served:
        for_monitors = served.stranger.get("/health").json()
        for_operators = served.admin.get("/admin/queue/health").json()

    assert not for_monitors["checks"]["broker"]["ok"]
    assert f"{classic}; next: {MAKE_ANEW}" in for_monitors["checks"]["broker"]["detail"]
    assert for_monitors["ready"]
    assert not for_operators["well"]
    assert for_operators["findings"][0]["next"] == MAKE_ANEW


def test_a_look_finds_nothing_wrong_with_queues_that_we_declared_and_makes_none_that_are_missing(on_rabbitmq, broker, channel):
    broker.publish([(Priority.LOW, [1])])
    for missing in ("urgent", "high"):
        channel.queue_delete(missing)

    seen = json.loads(run_command(on_rabbitmq, "status", "--json").stdout)["broker"]

    assert seen["reachable"]
    assert seen["of_another_kind"] == []
    assert seen["waiting"] == {"urgent": 0, "high": 0, "normal": 0, "low": 1}
    assert queues_of(broker.url) == ["low"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param(("guest:guest@", "guest:secret-of-the-test@"), "ACCESS_REFUSED", id="a wrong password"),
        pytest.param(("/embedq-test-", "/no-such-"), "NOT_ALLOWED", id="no such virtual host"),
    ],
)
def test_an_open_port_alone_does_not_make_a_broker_that_answers(on_rabbitmq, rabbitmq_url, changed, said):
    shown = run_command(on_rabbitmq | {"EMBEDDING_BROKER_URL": rabbitmq_url.replace(*changed)}, "health", "--json")

    assert shown.returncode == 1
    assert said in json.loads(shown.stdout)["findings"][0]["what"]
    assert "secret-of-the-test" not in shown.stdout + shown.stderr


def test_a_broker_that_hangs_keeps_nobody_from_the_status(on_rabbitmq, rabbitmq_url):
    with link(rabbitmq_url) as to_rabbitmq:
        to_rabbitmq.freeze()

        seen = peek(to_rabbitmq.url)

    assert not seen.reachable
    assert "timed out" in seen.why


def test_a_worker_that_meets_an_old_queue_says_what_to_do_and_begins_when_it_is_done(classic, on_rabbitmq, psql):
    with start_celery(on_rabbitmq, ready=False) as worker:
        worker.says("`embedq broker drain --yes --reason …`")
        assert worker.runs

        drained = run_command(on_rabbitmq, "broker", "drain", "--yes", "--reason", "an old queue")
        assert drained.returncode == 0, drained.stderr

        worker.says(" ready.")
        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=worker.output)


def test_a_worker_that_is_not_let_in_tries_again_without_haste(on_rabbitmq, rabbitmq_url):
    wrong = on_rabbitmq | {"EMBEDDING_BROKER_URL": rabbitmq_url.replace("guest:guest@", "guest:secret-of-the-test@")}
    with start_celery(wrong, ready=False) as worker:
        worker.says("Cannot connect")
        first_at = time.monotonic()
        until(lambda: worker.output().count("Cannot connect") >= 3, why=worker.output)

        assert time.monotonic() - first_at > AGAIN_S
        assert worker.runs
        assert "secret-of-the-test" not in worker.output()


@pytest.mark.parametrize("place", [ON_RABBITMQ], indirect=True, scope="module")
def test_a_killed_workers_message_is_back_in_its_queue_at_once_and_another_worker_does_it(fresh):
    with closing(broker_at(fresh.environment["EMBEDDING_BROKER_URL"])) as broker:
        with fresh.standin.held():
            first = fresh.start()
            fresh.add({"a": "text"})
            fresh.standin.wait_until_held()
            assert broker.look()["normal"].waiting == 0
            first.kill()
        until(lambda: broker.look()["normal"].waiting == 1)

    fresh.start()

    assert fresh.until_idle() == {"completed": 1}


@pytest.mark.parametrize("place", [ON_RABBITMQ], indirect=True, scope="module")
def test_what_waits_for_the_provider_waits_in_the_table_and_not_in_the_broker(fresh):
    worker = fresh.start()
    fresh.standin.control(fail_next=1, fail_status=429, fail_headers={"retry-after": "2"})

    fresh.add({"a": "text"})

    assert fresh.until_idle() == {"completed": 1}
    assert fresh.standin.stats()["statuses"]["429"] == 1
    assert queues_of(fresh.environment["EMBEDDING_BROKER_URL"]) == list(Priority)
    assert "delayed delivery" not in worker.output()


def test_a_late_acknowledgement_is_not_taken_for_an_old_queue(broker, channel):
    broker.publish([(Priority.LOW, [1])])

    channel.basic_ack(12345)
    with pytest.raises(amqp.PreconditionFailed) as refused:
        channel.queue_declare("low", passive=True)

    assert not is_refused_declaration(refused.value)


def test_what_a_worker_asks_over_a_link_that_is_half_open_ends(rabbitmq_url):
    assert AMQP_WORKER_OPTIONS["read_timeout"] <= 10
    with link(rabbitmq_url) as to_rabbitmq:
        worker = Connection(to_rabbitmq.url, transport_options=AMQP_WORKER_OPTIONS | {"read_timeout": 1})
        channel = worker.channel()
        worker.transport.register_with_event_loop(worker.connection, Hub())
        to_rabbitmq.freeze()
        try:
            with pytest.raises(worker.connection_errors):
                channel.basic_qos(0, 4, False)
        finally:
            worker.collect()


def test_a_worker_gives_up_a_link_that_is_half_open_and_goes_on_over_another(on_rabbitmq, rabbitmq_url, psql):
    with link(rabbitmq_url) as to_rabbitmq, start_celery(on_rabbitmq | {"EMBEDDING_BROKER_URL": to_rabbitmq.url}) as worker:
        to_rabbitmq.freeze()
        until(lambda: "Connection to broker lost" in worker.output(), 90, worker.output)
        to_rabbitmq.thaw()

        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], 60, worker.output)
