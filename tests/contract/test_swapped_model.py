"""A server that has another model under the same name: nothing more is stored, tasks wait, and it is said, until somebody or the server undoes it."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from embedq import Client
from embedq.decide.circuit_breaker import Circuit, circuit
from embedq.engine.engine import NextDue
from embedq.engine.requests import CANARY
from embedq.model import Model
from embedq.settings import from_env
from embedq.wiring import worker_parts
from tests.standin import running
from tests.standin.vectors import vector_of
from tests.support import run_command

DIMENSIONS = 64


@pytest.fixture(scope="module")
def standin():
    yield from running(dimensions=DIMENSIONS)


@pytest.fixture(scope="module")
def elsewhere():
    """A second server."""
    yield from running(dimensions=DIMENSIONS)


@pytest.fixture
def model(store, psql):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    added = store.models.add(Model("openai", "m", DIMENSIONS))
    psql("UPDATE embedding_active_model SET model_id = %s", added.id)
    psql("UPDATE embedding_models SET kept_in_step = (id = %s)", added.id)
    return added


@pytest.fixture
def at(environment, standin, elsewhere):
    """The environment of a process that asks this server."""
    for each in (standin, elsewhere):
        each.reset()
    others = {name: value for name, value in environment.items() if name not in ("EMBEDDING_PROVIDER", "EMBEDDING_DIMENSIONS")}
    return lambda server: (
        others | {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "sk-of-ours", "EMBEDDING_REQUESTS_PER_MINUTE": ""}
    )


@pytest.fixture
def worker(at, model):
    """Makes a worker of this process, whose every step a test takes."""
    made = []

    def make(server):
        parts = worker_parts(from_env(at(server)), "poller", name=f"worker-{len(made) + 1}")
        parts.worker.start()
        made.append(parts)
        return parts

    yield make
    for parts in made:
        parts.close()


@pytest.fixture
def write(psql):
    def insert(*ids):
        for each in ids:
            psql("INSERT INTO articles (id, title, content) VALUES (%s, '', %s)", each, f"text of {each}")

    return insert


@pytest.fixture
def stored(psql):
    return lambda: {row[0] for row in psql("SELECT article_id FROM embedding_vectors")}


@pytest.fixture
def again(psql):
    """Tasks that wait are due at once, and ten minutes have passed for every look of these workers."""
    passed: list[float] = []

    def now(*workers):
        psql("UPDATE embedding_tasks SET scheduled_at = clock_timestamp() WHERE status = 'pending'")
        psql("UPDATE embedding_canaries SET looked_at = looked_at - interval '10 minutes'")
        passed.append(600.0)
        for parts in workers:
            for timed in (parts.engine.sameness, *parts.engine._askers.values()):
                timed.clock = lambda: time.monotonic() + sum(passed)

    return now


@pytest.fixture
def swapped(worker, standin, write, stored, again):
    """A worker, with one article embedded, whose server then had another model."""
    parts = worker(standin)
    write("before")
    parts.engine.run(NextDue())
    standin.control(model="another")
    again(parts)
    write("after")
    return parts


def states(psql):
    return dict(psql("SELECT article_id, status FROM embedding_tasks"))


def test_nothing_more_is_stored_tasks_wait_and_none_is_charged(swapped, stored, psql):
    report = swapped.engine.run(NextDue())

    assert stored() == {"before"}
    assert psql("SELECT status, attempts FROM embedding_tasks WHERE article_id = 'after'") == [("pending", 0)]
    assert report.wait_s > 0
    ((message,),) = psql("SELECT error_message FROM embedding_tasks WHERE article_id = 'after'")
    assert "makes other vectors than before" in message


def test_the_provider_itself_is_not_paused(swapped, store):
    swapped.engine.run(NextDue())

    assert circuit(store.providers.state("openai")) is Circuit.CLOSED


def test_it_is_said_by_status_health_alerts_and_the_audit_log_with_what_to_do(swapped, at, standin, psql, model):
    swapped.engine.run(NextDue())
    swapped.engine.run(NextDue())

    health = run_command(at(standin), "health", "--json")
    alerts = run_command(at(standin), "alerts", "check", "--json")
    status = run_command(at(standin), "status", "--json")
    found = [each for each in json.loads(status.stdout)["findings"] if each["rule"] == "model-changed"]
    assert (health.returncode, alerts.returncode) != (0, 0)
    assert "model-changed" in alerts.stdout
    assert len(found) == 1
    assert f"127.0.0.1:{standin.openai_url.split(':')[2].split('/')[0]}" in found[0]["what"]
    assert f"embedq model accept {model.id}" in found[0]["next"]
    assert psql("SELECT count(*) FROM embedding_audit_logs WHERE level = 'error' AND category = 'model'") == [(1,)]


def test_when_the_former_model_is_back_the_tasks_go_on_by_themselves(swapped, standin, stored, again, store):
    swapped.engine.run(NextDue())
    standin.control(model="")
    again(swapped)

    swapped.engine.run(NextDue())

    assert stored() == {"before", "after"}
    assert store.canaries.swapped() == []
    assert any("makes the vectors of before again" in line["message"] for line in store.audit.recent())


def test_what_an_operator_accepts_is_the_models_own_from_then_on(swapped, at, standin, stored, again, model, store):
    swapped.engine.run(NextDue())

    done = run_command(at(standin), "model", "accept", str(model.id), "--yes", "--reason", "the same weights", "--json")
    again(swapped)
    swapped.engine.run(NextDue())

    assert done.returncode == 0, done.stderr
    assert abs(json.loads(done.stdout)["cosine"]) < 0.9
    assert stored() == {"before", "after"}
    np.testing.assert_allclose(store.canaries.of(model.id).vector, vector_of(f"another{CANARY}", DIMENSIONS), atol=1e-6)


def test_what_one_worker_saw_stops_all_whatever_they_see_themselves(worker, standin, elsewhere, write, stored, again):
    right, wrong = worker(standin), worker(elsewhere)
    elsewhere.control(model="another")
    write("a")
    right.engine.run(NextDue())
    write("b")
    wrong.engine.run(NextDue())
    write("c")

    right.engine.run(NextDue())

    assert stored() == {"a"}


def test_one_that_asks_another_server_ends_it_only_when_nobody_has_seen_it_for_a_while(
    worker, standin, elsewhere, write, stored, again, psql
):
    right, wrong = worker(standin), worker(elsewhere)
    elsewhere.control(model="another")
    write("a")
    right.engine.run(NextDue())
    write("b")
    wrong.engine.run(NextDue())
    psql("UPDATE embedding_canaries SET looked_at = looked_at - interval '30 s'")
    psql("UPDATE embedding_tasks SET scheduled_at = clock_timestamp() WHERE status = 'pending'")
    right.engine.run(NextDue())
    meanwhile = stored()
    again()

    right.engine.run(NextDue())

    assert (meanwhile, stored()) == ({"a"}, {"a", "b"})


def test_a_worker_whose_own_server_has_another_stores_nothing_although_others_may(
    worker, standin, elsewhere, write, stored, again, store, model, psql
):
    right, wrong = worker(standin), worker(elsewhere)
    elsewhere.control(model="another")
    write("a")
    right.engine.run(NextDue())
    write("b")
    wrong.engine.run(NextDue())
    store.canaries.same_again(model.id)
    psql("UPDATE embedding_tasks SET scheduled_at = clock_timestamp() WHERE status = 'pending'")

    wrong.engine.run(NextDue())

    assert stored() == {"a"}


def test_a_batch_that_was_under_way_when_another_saw_it_is_not_stored(
    worker, standin, write, stored, store, model, monkeypatch
):
    parts = worker(standin)
    write("a")
    parts.engine.run(NextDue())
    write("b")
    monkeypatch.setattr("embedq.engine.model_gate.LONG_BATCH_S", -1.0)
    asked = parts.engine.asker(model.id).provider
    embed = type(asked).embed

    def seen_by_another(self, texts):
        store.canaries.differs(model.id, 0.1, "elsewhere:1", "another worker")
        return embed(self, texts)

    monkeypatch.setattr(type(asked), "embed", seen_by_another)

    parts.engine.run(NextDue())

    assert stored() == {"a"}


def test_the_first_worker_keeps_the_canary_and_a_second_compares(worker, standin, elsewhere, write, store, model, stored):
    first, second = worker(standin), worker(elsewhere)
    write("a")
    first.engine.run(NextDue())
    write("b")
    second.engine.run(NextDue())

    np.testing.assert_allclose(store.canaries.of(model.id).vector, vector_of(CANARY, DIMENSIONS), atol=1e-6)
    assert stored() == {"a", "b"}


def test_a_model_that_was_swapped_before_any_canary_was_kept_is_found_by_what_is_stored(
    worker, standin, write, stored, psql, again, store, model
):
    """An installation of before this version."""
    old = worker(standin)
    write("a", "b", "c", "d")
    old.engine.run(NextDue())
    psql("DELETE FROM embedding_canaries")
    standin.control(model="another")
    write("later")
    new = worker(standin)

    new.engine.run(NextDue())

    assert stored() == {"a", "b", "c", "d"}
    assert store.canaries.of(model.id).vector is None
    standin.control(model="")
    again(new)
    new.engine.run(NextDue())
    assert "later" in stored()
    assert store.canaries.swapped() == []


@pytest.mark.parametrize(("noise", "stops"), [(0.02, False), (0.2, False), (0.5, False)])
def test_noise_of_a_provider_is_no_other_model(worker, standin, write, stored, again, noise, stops):
    standin.control(noise=noise)
    parts = worker(standin)
    write("a")
    parts.engine.run(NextDue())

    for number in range(10):
        again(parts)
        write(f"a{number}")
        parts.engine.run(NextDue())

    assert (len(stored()) < 11) is stops


def test_a_provider_that_does_not_answer_the_look_is_paused_and_nobody_is_charged(worker, standin, write, psql):
    parts = worker(standin)
    standin.control(fail_always=True)
    write("a")

    parts.engine.run(NextDue())

    assert psql("SELECT status, attempts FROM embedding_tasks") == [("pending", 0)]
    assert psql("SELECT faults FROM embedding_providers WHERE name = 'openai'") == [(1,)]


def test_a_look_costs_no_request_and_there_is_none_while_the_last_one_holds(worker, standin, write):
    parts = worker(standin)
    for number in range(5):
        write(f"a{number}")
        parts.engine.run(NextDue())

    assert (standin.stats()["requests"], standin.stats()["inputs"]) == (5, 6)


def test_a_probe_after_a_fault_is_the_look_as_well(swapped, standin, psql, stored):
    swapped.store.providers.pause("openai", 0.0, "HTTP 503")
    for looked in swapped.engine.sameness._looked.values():
        looked.at = swapped.engine.sameness.clock()
    before = standin.stats()["requests"]

    swapped.engine.run(NextDue())

    assert stored() == {"before"}
    assert standin.stats()["requests"] == before + 3  # the probe, and two more before it is taken for another model


def test_a_writer_in_mode_sync_stores_nothing_either(swapped, at, standin, stored, store, model):
    swapped.engine.run(NextDue())
    with Client(from_env(at(standin) | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        client.create("", "written in mode sync", id="sync")

    assert stored() == {"before"}
    assert client.store.articles.get("sync").content == "written in mode sync"


def test_a_writer_in_mode_sync_looks_itself(at, model, standin, worker, write, stored):
    parts = worker(standin)
    write("a")
    parts.engine.run(NextDue())
    standin.control(model="another")
    with Client(from_env(at(standin) | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        client.create("", "written in mode sync", id="sync")

    assert stored() == {"a"}


@pytest.mark.parametrize("is_swapped", [False, True])
def test_provider_check_compares_it_too(worker, at, standin, write, is_swapped):
    parts = worker(standin)
    write("a")
    parts.engine.run(NextDue())
    standin.control(model="another" if is_swapped else "")

    done = run_command(at(standin), "provider", "check", "--json")

    found = {each["what"]: each for each in json.loads(done.stdout)["checks"]}
    assert done.returncode == (3 if is_swapped else 0)
    assert ("it is another model" in found["canary"]["found"]) is is_swapped
    assert ("embedq model accept" in found["canary"]["next"]) is is_swapped
