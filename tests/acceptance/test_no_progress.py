"""Work is due and nothing settles: whatever the cause, every door says so, and names the cause where it can be known.

The faults are real. That they have lasted is not waited for: the rows that tell since when are an hour older than they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
import pytest

from embedq.broker import make_app
from tests.rabbitmq import in_memory_alarm
from tests.redisprocess import OwnRedis, own_redis
from tests.standin import StandIn
from tests.support import Process, start_celery, start_poller, until

from .conftest import RABBITMQ
from .operating import answered, invoked
from .service import Served, serving

Psql = Callable[..., list[tuple[Any, ...]]]

EARLIER = """
SET session_replication_role = replica;
UPDATE embedding_workers SET started_at = started_at - interval '1 h';
UPDATE embedding_worker_status SET changed_at = changed_at - interval '1 h';
UPDATE embedding_audit_logs SET timestamp = timestamp - interval '1 h';
UPDATE embedding_tasks SET created_at = created_at - interval '1 h', scheduled_at = scheduled_at - interval '1 h',
    processed_at = processed_at - interval '1 min', completed_at = completed_at - interval '1 h'
"""


@contextmanager
def as_an_hour_ago(admin_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(EARLIER)
        yield admin


def put(psql: Psql, number: int = 5) -> None:
    psql(
        "INSERT INTO articles (id, title, content) SELECT 'a' || i, 'Tea ' || i, 'text ' || i FROM generate_series(1, %s) i",
        number,
    )


def first(environment: Mapping[str, str]) -> dict[str, Any]:
    found = answered(environment, "status")["findings"]
    return found[0] if found else {}


def told_everywhere(environment: Mapping[str, str], rule: str, *words: str, served: Served | None = None) -> None:
    """By `status`, `health`, `alerts check`, GET /health and the metrics. `served`: a service that runs already."""
    found = answered(environment, "status")["findings"]
    told = [each for each in found if each["rule"] == rule]
    assert told and told[0]["level"] == "problem", found
    assert all(word in told[0]["what"] for word in words), told
    health = answered(environment, "health", code=1)
    assert not health["well"]
    assert rule in [each["rule"] for each in health["findings"]]
    alerts = answered(environment, "alerts", "check", code=3)["alerts"]
    assert rule in [alert["name"] for alert in alerts if alert["firing"]]
    with nullcontext(served) if served else serving(environment) as asked:
        answer = asked.stranger.get("/health").json()
        page = asked.admin.get("/metrics").text
    assert answer["status"] == "degraded"
    assert rule in answer["problems"], answer
    assert f'embedq_finding{{level="problem",rule="{rule}"}} 1.0' in page


def stalls(environment: Mapping[str, str], *words: str) -> None:
    until(
        lambda: all(word in first(environment).get("what", "") for word in words), why=lambda: answered(environment, "status")
    )
    assert first(environment)["rule"] == "no-progress"
    told_everywhere(environment, "no-progress", *words)


@pytest.fixture
def polled(deployment: dict[str, str], psql: Psql) -> Iterator[dict[str, str]]:
    """In mode database, with a living poller that leads."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(deployment) as poller:
        until(lambda: psql("SELECT 1 FROM embedding_workers WHERE steward_since IS NOT NULL"), why=poller.output)
        yield deployment


def test_nothing_is_told_of_a_system_that_embeds(polled: dict[str, str], psql: Psql) -> None:
    put(psql)

    until(lambda: psql("SELECT count(*) FROM articles WHERE embedding_status = 'ready'") == [(5,)])

    assert answered(polled, "health") == {"well": True, "findings": []}


def test_nothing_is_told_while_work_has_just_begun(polled: dict[str, str], psql: Psql, standin: StandIn) -> None:
    standin.hold()
    put(psql)
    standin.wait_until_held(1)

    assert answered(polled, "health") == {"well": True, "findings": []}
    standin.release()


def test_threads_in_a_provider_that_does_not_answer(
    polled: dict[str, str], psql: Psql, standin: StandIn, admin_url: str
) -> None:
    standin.hold()
    put(psql)
    standin.wait_until_held(1)
    with as_an_hour_ago(admin_url):
        stalls(polled, "has waited for the provider")
    standin.release()


def test_rows_that_a_transaction_has_locked(polled: dict[str, str], psql: Psql, admin_url: str) -> None:
    psql("UPDATE embedding_worker_status SET is_running = false")
    put(psql)
    with as_an_hour_ago(admin_url), psycopg.connect(admin_url, application_name="nightly-report") as other:
        other.execute("SELECT id FROM embedding_tasks FOR UPDATE")
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute("UPDATE embedding_worker_status SET is_running = true")
            admin.execute(
                EARLIER.replace("UPDATE embedding_tasks", "UPDATE embedding_tasks x").partition("UPDATE embedding_tasks")[0]
            )
        stalls(polled, "held by pid", "nightly-report")


def test_the_fence_held_by_hand(polled: dict[str, str], psql: Psql, admin_url: str) -> None:
    with psycopg.connect(admin_url, application_name="psql", autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(embedq_fence_key())")
        put(psql)
        with as_an_hour_ago(admin_url):
            stalls(polled, "held by pid", "to claim tasks")


# The broker ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def celery(deployment: dict[str, str], psql: Psql) -> Iterator[Process]:
    with start_celery(deployment) as worker:
        until(lambda: psql("SELECT 1 FROM embedding_workers WHERE steward_since IS NOT NULL"), why=worker.output)
        yield worker


def full(broken: OwnRedis) -> None:
    broken.client.config_set("maxmemory-policy", "noeviction")
    broken.client.config_set("maxmemory", "1mb")


def replica(broken: OwnRedis) -> None:
    broken.client.replicaof("127.0.0.1", "1")


def without_rights(broken: OwnRedis) -> None:
    broken.client.execute_command("ACL", "SETUSER", "default", "-@write")


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        pytest.param(full, "OOM", id="full"),
        pytest.param(replica, "READONLY", id="a replica"),
        pytest.param(without_rights, "NOPERM", id="without the right to write"),
    ],
)
def test_a_redis_that_answers_and_takes_nothing(
    fault: Callable[[OwnRedis], None],
    word: str,
    broken: OwnRedis,
    deployment: dict[str, str],
    celery: Process,
    psql: Psql,
    admin_url: str,
) -> None:
    fault(broken)
    put(psql)
    with as_an_hour_ago(admin_url):
        until(lambda: first(deployment).get("rule") == "no-progress", why=lambda: answered(deployment, "status"))

        told_everywhere(deployment, "no-progress")
        told_everywhere(deployment, "broker-away", word, "takes no message")


@pytest.mark.parametrize("broken", [RABBITMQ], indirect=True)
def test_a_rabbitmq_in_an_alarm(deployment: dict[str, str], celery: Process, psql: Psql) -> None:
    """The whole server takes no messages for the time of the block: other users of this machine wait so long."""
    with serving(deployment) as served, in_memory_alarm() as begun:
        if not begun:
            pytest.skip("rabbitmqctl may not change this RabbitMQ's limits")
        put(psql)
        until(lambda: first(deployment).get("rule") == "broker-away", why=lambda: answered(deployment, "status"))

        told_everywhere(deployment, "broker-away", "is in an alarm", served=served)


def test_a_consumer_that_was_cancelled(deployment: dict[str, str], celery: Process, psql: Psql) -> None:
    with make_app(deployment["REDIS_URL"]) as app:
        for queue in ("normal", "low"):
            app.control.cancel_consumer(queue)
    put(psql)

    until(lambda: any("queue normal" in each["what"] for each in answered(deployment, "status")["findings"]), why=celery.output)

    told_everywhere(deployment, "queue-not-consumed", "no Celery worker consumes the queue normal; 5 tasks")


def test_a_worker_on_another_broker(
    deployment: dict[str, str], psql: Psql, admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with start_poller(deployment) as poller, own_redis(tmp_path_factory.mktemp("other")) as other:
        until(lambda: psql("SELECT 1 FROM embedding_workers WHERE steward_since IS NOT NULL"), why=poller.output)
        with start_celery(deployment | {"REDIS_URL": other.url}) as worker:
            until(lambda: psql("SELECT 1 FROM embedding_workers WHERE delivery = 'celery'"), why=worker.output)
            put(psql)
            with as_an_hour_ago(admin_url):
                stalls(deployment, f"uses the broker {other.url}", "messages wait in the broker's queue normal")


# PostgreSQL and the workers -----------------------------------------------------------------------------------------------------------


def test_a_database_that_takes_no_writes(polled: dict[str, str], psql: Psql, admin_url: str) -> None:
    put(psql)
    name = admin_url.rsplit("/", 1)[1]
    psql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    told_everywhere(polled, "database-read-only", "takes no writes")


def test_a_clock_that_was_set_back(polled: dict[str, str], psql: Psql, admin_url: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("UPDATE embedding_worker_status SET is_running = false")
        put(psql)
        admin.execute(
            "UPDATE embedding_tasks SET created_at = created_at + interval '1 h', scheduled_at = scheduled_at + interval '1 h'"
        )
        admin.execute("UPDATE embedding_worker_status SET is_running = true")

    told_everywhere(polled, "clock", "was set back")


def test_a_worker_that_dies_again_and_again(deployment: dict[str, str], psql: Psql) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    for _ in range(3):
        with start_poller(deployment) as poller:
            until(lambda: psql("SELECT 1 FROM embedding_workers WHERE seen_at > started_at"), why=poller.output)
    psql("UPDATE embedding_workers SET alive_until = clock_timestamp()")
    until(lambda: not any(each["alive"] for each in answered(deployment, "status")["workers"]))

    told_everywhere(deployment, "crash-loop", "3 workers died within a minute")


def test_a_task_that_loses_its_worker_again_and_again(polled: dict[str, str], psql: Psql, standin: StandIn) -> None:
    standin.hold()
    put(psql, 1)
    standin.wait_until_held(1)
    psql("UPDATE embedding_tasks SET lost_leases = 10")

    told_everywhere(polled, "crash-loop", "1 tasks in work have lost their worker")
    standin.release()


def test_what_is_told_to_a_person_begins_with_it(polled: dict[str, str], psql: Psql, standin: StandIn, admin_url: str) -> None:
    standin.hold()
    put(psql)
    standin.wait_until_held(1)
    with as_an_hour_ago(admin_url):
        until(lambda: first(polled).get("rule") == "no-progress")

        assert "nothing has ended for" in invoked(polled, "health", code=1).stdout
    standin.release()


def test_a_database_whose_sessions_begin_in_latin1_embeds_every_letter(deployment: dict[str, str], psql: Psql) -> None:
    name = deployment["DATABASE_URL"].rsplit("/", 1)[1]
    psql(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(deployment) as poller:
        psql("INSERT INTO articles (id, title, content) VALUES ('a1', 'Thé', '茶 costs 3 €')")

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=poller.output)
