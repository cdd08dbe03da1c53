"""`embedq provider check` finds what is wrong with a provider, and names the next step."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from embedq import Client
from embedq.model import Model
from embedq.settings import from_env
from tests.standin import running
from tests.support import run_command, start_poller, until


@pytest.fixture(scope="module")
def standin():
    yield from running(dimensions=64)


@pytest.fixture
def ask(standin, database_url, redis_url):
    """The command's exit code and its checks by what they look at. No model of the stand-in is registered: the settings' is asked."""
    standin.reset()

    def run(name="openai", address="", **control):
        standin.control(**control)
        environment = {
            "DATABASE_URL": database_url.rsplit("/", 1)[0] + "/nothing_there",
            "REDIS_URL": redis_url,
            "EMBEDDING_PROVIDER": name,
            "EMBEDDING_MODEL": "m",
            "EMBEDDING_DIMENSIONS": "64",
            "OPENAI_API_KEY": "sk-secret-of-ours",
            "OPENAI_BASE_URL": address or standin.openai_url,
            "OLLAMA_BASE_URL": standin.url,
            "EMBEDDING_WORKER_TIMEOUT": "10000",
            "EMBEDDING_REQUESTS_PER_MINUTE": "60",
        }
        done = run_command(environment, "provider", "check", "--json")
        assert "sk-secret" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.returncode, {each["what"]: each for each in json.loads(done.stdout)["checks"]}

    return run


@pytest.mark.parametrize("name", ["openai", "ollama", "hashing"])
def test_a_provider_that_is_well(ask, name):
    code, found = ask(name)

    assert code == 0
    assert found["dimensions"]["found"] == "64"
    assert found["latency"]["found"].endswith("ms the first time)")
    assert found["budget"]["found"].startswith("60 requests")
    assert not any(each["next"] for each in found.values())


@pytest.mark.parametrize(
    ("control", "words", "next_step"),
    [
        pytest.param({"require_key": "another"}, "does not accept the credentials", "API key", id="credentials"),
        pytest.param(
            {"fail_always": True, "fail_status": 404}, "does not know the model", "EMBEDDING_MODEL", id="no such model"
        ),
        pytest.param({"fail_always": True, "fail_status": 503}, "overloaded", "wait", id="overloaded"),
        pytest.param({"twist": "wrong_dimensions"}, "other dimensions", "EMBEDDING_DIMENSIONS", id="dimensions"),
        pytest.param({"twist": "html"}, "did not answer in JSON", "base URL", id="a web page"),
        pytest.param({"twist": "hang"}, "did not answer in time", "EMBEDDING_", id="silence"),
    ],
)
def test_what_is_wrong_is_said_with_its_next_step(ask, control, words, next_step):
    code, found = ask(**control)

    assert code == 3
    assert words in found["answer"]["found"]
    assert next_step in found["answer"]["next"]


def test_a_server_that_is_not_there(ask):
    code, found = ask(address="http://127.0.0.1:9")

    assert code == 3
    assert "cannot be reached" in found["answer"]["found"]
    assert found["server"]["found"] == "127.0.0.1, port 9, as this environment names it"
    assert "that the server runs" in found["answer"]["next"]


@pytest.mark.parametrize("swapped", [False, True])
def test_another_model_under_the_same_name_is_found_by_what_is_stored(environment, psql, swapped):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with Client(from_env(environment | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        for number in range(5):
            client.create(f"Tea {number}", "It is steeped in hot water.")
    if swapped:
        psql("UPDATE embedding_vectors SET embedding = (SELECT array_agg(random() - 0.5) FROM generate_series(1, 64))::vector")

    done = run_command(environment, "provider", "check", "--json")

    found = {each["what"]: each for each in json.loads(done.stdout)["checks"]}
    assert done.returncode == (3 if swapped else 0)
    assert ("it is another model" in found["stored vectors"]["found"]) is swapped
    assert bool(found["stored vectors"]["next"]) is swapped


@pytest.mark.parametrize(
    ("theirs", "differs"),
    [
        pytest.param({}, False, id="the same"),
        pytest.param({"OPENAI_API_KEY": "sk-another-secret"}, True, id="another key"),
        pytest.param({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, True, id="another address"),
        pytest.param({"EMBEDDING_PROVIDER_HEADERS": '{"X-Key": "sk-in-a-header"}'}, True, id="another header"),
    ],
)
def test_what_the_workers_ask_is_shown_beside_what_this_shell_asks(standin, environment, store, psql, theirs, differs):
    standin.reset()
    model = store.models.add(Model("openai", "m", 64))
    psql("UPDATE embedding_active_model SET model_id = %s", model.id)
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    named = {name: each for name, each in environment.items() if name not in ("EMBEDDING_PROVIDER", "EMBEDDING_DIMENSIONS")}
    ours = named | {"OPENAI_BASE_URL": standin.openai_url, "OPENAI_API_KEY": "sk-secret-of-ours"}

    with start_poller(ours | theirs) as worker:
        until(lambda: psql("SELECT counters ? 'asks openai/m/64' FROM embedding_workers") == [(True,)], why=worker.output)
        done = run_command(ours, "provider", "check", "--json")

    (told,) = [each for each in json.loads(done.stdout)["checks"] if each["what"] == "workers ask"]
    port = 9 if "OPENAI_BASE_URL" in theirs else urlsplit(standin.openai_url).port
    assert told["found"].startswith(f"127.0.0.1:{port}, key ")
    assert "poller@" in told["found"]
    assert bool(told["next"]) is differs
    assert done.returncode == (3 if differs else 0), done.stdout
    assert "sk-" not in done.stdout + str(psql("SELECT counters FROM embedding_workers"))


def test_the_last_fault_of_a_worker_is_shown(standin, environment, store, psql):
    standin.reset()
    standin.control(require_key="the-shells")
    model = store.models.add(Model("openai", "m", 64))
    psql("UPDATE embedding_active_model SET model_id = %s", model.id)
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    named = {name: each for name, each in environment.items() if name not in ("EMBEDDING_PROVIDER", "EMBEDDING_DIMENSIONS")}
    ours = named | {"OPENAI_BASE_URL": standin.openai_url, "OPENAI_API_KEY": "the-shells"}

    with start_poller(ours | {"OPENAI_API_KEY": "the-workers"}) as worker:
        psql("INSERT INTO articles (id, content) VALUES ('a', 'tea')")
        until(lambda: psql("SELECT counters ? 'fault openai' FROM embedding_workers") == [(True,)], why=worker.output)
        done = run_command(ours, "provider", "check", "--json")

    found = {each["what"]: each for each in json.loads(done.stdout)["checks"]}
    assert done.returncode == 3
    assert "does not accept the credentials" in found["last fault"]["found"]
    assert "poller@" in found["last fault"]["found"]
    assert found["workers ask"]["next"]
