"""Stored texts get the document's prefix and questions the query's, whichever way they come; and never are the two kinds of vectors mixed."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from embedq import AsyncClient, Client, wiring
from embedq.cli.model_building import ask_once
from embedq.client.judged_search import Ranking
from embedq.client.judged_search import run as judged
from embedq.decide.quality import Judged
from embedq.engine.requests import CANARY
from embedq.errors import ConfigError
from embedq.model import Model, Preparation
from embedq.settings import from_env
from tests.acceptance.service import AUTH, serving
from tests.agents import raw
from tests.dialects import DIMENSIONS, dialects
from tests.support import run_command, start_poller, until

DOCUMENT, QUERY = "search_document: ", "search_query: "
NAME = "nomic-ai/nomic-embed-text-v1.5"


@pytest.fixture
def server():
    with dialects() as started:
        yield started


@pytest.fixture
def empty(psql):
    """The database without a model: the settings' one becomes the first. Mode database."""
    psql("DELETE FROM embedding_active_model")
    psql("UPDATE embedding_worker_status SET mode = 'database'")


@pytest.fixture
def named(environment, server, empty):
    """The environment of a process that embeds with a model which wants prefixes."""
    return environment | {
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": NAME,
        "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "OPENAI_BASE_URL": server.url("plain"),
        "OPENAI_API_KEY": "sk-of-the-tests",
    }


def asked(server):
    """Every text that the server was asked for, without the probes."""
    return [text for each in server.seen for text in each.texts if CANARY not in text]


def by_client(environment):
    with Client(from_env(environment)) as client:
        client.search("what is tea")


def by_async_client(environment):
    async def search():
        async with AsyncClient(from_env(environment)) as client:
            await client.search("what is tea")

    asyncio.run(search())


def by_command(environment):
    done = run_command(environment, "search", "what is tea")
    assert done.returncode == 0, done.stderr


def by_http(environment):
    with serving(environment) as served:
        answer = served.articles.post("/api/search", json={"query": "what is tea"})
        assert answer.status_code == httpx.codes.OK, answer.text


def by_mcp(environment):
    with serving(environment) as served, raw("http", environment, served.url, AUTH) as agent:
        assert "error" not in agent.call("search_articles", '{"query": "what is tea"}')


def by_questions(environment):
    settings = from_env(environment)
    with Client(settings) as client:
        active = client.store.models.active()
        judged(settings, client.store, active, [Judged("what is tea", ["a"])], [Ranking.MEANING])


def by_comparison(environment):
    done = run_command(environment, "model", "compare", "1", "what is tea", "--with", NAME)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def registered(named, server):
    with Client(from_env(named)) as client:
        wiring.agreed_model(client.settings, client.store)
    server.seen.clear()
    return named


@pytest.mark.parametrize("way", [by_client, by_async_client, by_command, by_http, by_mcp, by_questions, by_comparison])
def test_a_question_has_the_prefix_of_questions_by_every_way(registered, server, way):
    way(registered)

    assert asked(server) == [f"{QUERY}what is tea"]


def by_writer(environment):
    with Client(from_env(environment | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        client.create("", "Tea is steeped.")


def by_async_writer(environment):
    async def write():
        async with AsyncClient(from_env(environment | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
            await client.create("", "Tea is steeped.")

    asyncio.run(write())


def by_worker(environment):
    with Client(from_env(environment)) as client:
        made = client.create("", "Tea is steeped.")
        with start_poller(environment):
            client.wait([made.id])


def by_reindex(environment):
    by_writer(environment)
    done = run_command(environment, "articles", "reindex", "--all", "--yes", "--reason", "a test")
    assert done.returncode == 0, done.stderr
    with Client(from_env(environment)) as client, start_poller(environment):
        until(lambda: client.store.overview.depth() == [])


def by_build(environment):
    with Client(from_env(environment)) as client:
        ask_once(client.settings, client.store.models.active())


def by_check(environment):
    done = run_command(environment, "provider", "check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", [by_writer, by_async_writer, by_worker, by_reindex, by_build, by_check])
def test_a_text_has_the_prefix_of_texts_by_every_way(registered, server, way):
    way(registered)

    assert {text.partition(":")[0] for each in server.seen for text in each.texts} == {"search_document"}


def test_a_writer_that_searches_uses_both(registered, server):
    with Client(from_env(registered | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        client.create("", "Tea is steeped.")
        hits = client.search("what is tea")
        client.create("", "Coffee is ground.")

    assert asked(server) == [f"{DOCUMENT}Tea is steeped.", f"{QUERY}what is tea", f"{DOCUMENT}Coffee is ground."]
    assert [hit.snippet for hit in hits] == ["Tea is steeped."]


def test_fields_of_the_request_say_it_to_servers_that_have_them(named, server):
    fields = '{"document_parameters": {"input_type": "document"}, "query_parameters": {"input_type": "query"}}'
    settings = from_env(named | {"EMBEDDING_MODEL": "theirs", "EMBEDDING_PREFIXES": fields, "EMBEDDING_QUEUE_ENABLED": "false"})
    with Client(settings) as client:
        wiring.agreed_model(settings, client.store)
        client.create("", "Tea is steeped.")
        client.search("what is tea")

    sent = [(each.body["input_type"], [text for text in each.texts if text != CANARY]) for each in server.seen]
    assert sent == [("document", ["Tea is steeped."]), ("query", ["what is tea"])]


def test_a_model_that_was_registered_without_prefixes_stays_without(named, server, store, psql):
    """One of before this version: its vectors were made of the texts alone."""
    registered = store.models.agree(Model("openai", NAME, DIMENSIONS))

    by_client(named)
    by_writer(named)

    assert registered.preparation == Preparation()
    assert asked(server) == ["what is tea", "Tea is steeped."]


@pytest.mark.parametrize("prefixes", ['{"query": "other: "}', "{}"])
def test_settings_that_differ_from_the_register_are_refused_with_the_way_out(registered, prefixes):
    settings = from_env(registered | {"EMBEDDING_PREFIXES": prefixes})

    with Client(settings) as client, pytest.raises(ConfigError, match="EMBEDDING_PREFIXES differs") as refused:
        wiring.agreed_model(settings, client.store)

    assert f"embedq model add openai {NAME} {DIMENSIONS} --prefixes" in refused.value.hint
    done = run_command(registered | {"EMBEDDING_PREFIXES": prefixes}, "config", "check")
    assert done.returncode == 2
    assert "EMBEDDING_PREFIXES differs" in done.stderr


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"EMBEDDING_PREFIXES": "known"},
        {"EMBEDDING_PREFIXES": '{"document": "search_document: ", "query": "search_query: "}'},
    ],
)
def test_settings_that_say_the_same_or_nothing_are_fine(registered, said):
    settings = from_env(registered | said)

    with Client(settings) as client:
        assert wiring.agreed_model(settings, client.store).preparation.query == QUERY


def test_other_prefixes_are_another_model_beside_it_that_the_server_knows_by_the_same_name(registered, server, psql):
    by_writer(registered)
    added = run_command(
        registered, "model", "add", "openai", NAME, str(DIMENSIONS), "--prefixes", "{}", "--json", "--yes", "--reason", "a test"
    )
    again = run_command(registered, "model", "add", "openai", NAME, str(DIMENSIONS), "--prefixes", "{}", "--json", "--yes")
    plain = run_command(registered, "model", "add", "openai", NAME, str(DIMENSIONS), "--json", "--yes")
    made = json.loads(added.stdout)
    built = run_command(registered, "model", "build", str(made["id"]), "--yes", "--reason", "a test")
    server.seen.clear()
    with Client(from_env(registered)) as client, start_poller(registered):
        until(lambda: client.store.overview.depth() == [])
        switched = run_command(registered, "model", "activate", str(made["id"]), "--yes", "--reason", "a test")
        client.search("what is tea")

    assert made["model"] == f"openai/{NAME}#2/{DIMENSIONS}"
    assert (json.loads(again.stdout)["id"], json.loads(plain.stdout)["id"]) == (made["id"], made["id"] - 1)
    assert built.returncode == switched.returncode == 0, built.stderr + switched.stderr
    assert asked(server) == ["Tea is steeped.", "what is tea"]
    assert {each.body["model"] for each in server.seen} == {NAME}
    assert psql(
        "SELECT count(*) FROM embeddings WHERE model_id = ANY (%s) GROUP BY model_id", [made["id"], made["id"] - 1]
    ) == [(1,), (1,)]


def test_a_prefix_stands_before_every_chunk_and_fits(registered, server, psql):
    text = " ".join(f"Sentence number {number} says that tea is steeped." for number in range(600))

    with Client(from_env(registered | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        client.create("", text)

    chunks = psql("SELECT starts_at, ends_at FROM embedding_vectors ORDER BY chunk")
    assert len(chunks) > 1
    assert asked(server) == [DOCUMENT + text[begin:end] for begin, end in chunks]


def test_a_backup_brings_prefixes_back_and_is_refused_over_others(registered, psql, tmp_path):
    by_writer(registered)
    saved = run_command(registered, "backup", str(tmp_path / "b"), "--with", "articles,vectors")
    assert saved.returncode == 0, saved.stderr
    psql('UPDATE embedding_models SET preparation = \'{"query": "other: "}\' WHERE name = %s', NAME)
    refused = run_command(registered, "restore", str(tmp_path / "b"), "--yes", "--reason", "a test")
    psql("UPDATE embedding_models SET name = 'elsewhere' WHERE name = %s", NAME)
    restored = run_command(registered, "restore", str(tmp_path / "b"), "--yes", "--reason", "a test")

    assert refused.returncode != 0
    assert "other prefixes" in refused.stderr
    assert restored.returncode == 0, restored.stderr
    ((kept,),) = psql("SELECT preparation FROM embedding_models WHERE name = %s", NAME)
    assert (kept["document"], kept["query"]) == (DOCUMENT, QUERY)


def test_a_model_may_have_its_chunks_embedded_with_their_headings(named, server, psql):
    text = "# Tea\n\n" + "\n\n".join(f"## Part {number}\n\n{'Words of a sentence. ' * 40}" for number in range(4))
    settings = from_env(
        named | {"EMBEDDING_CHUNK_HEADINGS": "true", "EMBEDDING_CHUNK_TOKENS": "100", "EMBEDDING_CHUNK_OVERLAP": "0"}
    )
    with Client(settings) as client:
        registered = wiring.agreed_model(settings, client.store)
    with Client(from_env(named | {"EMBEDDING_QUEUE_ENABLED": "false"})) as client:
        server.seen.clear()
        client.create("", text)
        hits = client.search("what is tea", 1)

    sent = [each.removeprefix(DOCUMENT) for each in asked(server) if each.startswith(DOCUMENT)]
    assert (registered.preparation.headings, registered.preparation.chunk_tokens) == (True, 100)
    assert sent[0].startswith("# Tea")
    assert all(each.startswith(("Tea > Part ", "Tea\n\n## Part")) for each in sent[1:])
    assert len(sent) == psql("SELECT max(chunks) FROM embeddings")[0][0]
    assert len(hits) == 1


def test_chunks_that_differ_from_the_register_are_refused(named):
    settings = from_env(named | {"EMBEDDING_CHUNK_TOKENS": "300"})
    with Client(settings) as client:
        wiring.agreed_model(settings, client.store)
        for said in ({"EMBEDDING_CHUNK_TOKENS": "500"}, {"EMBEDDING_CHUNK_HEADINGS": "true"}):
            with pytest.raises(ConfigError, match="EMBEDDING_CHUNK_"):
                wiring.agreed_model(from_env(named | said), client.store)
        for said in ({}, {"EMBEDDING_CHUNK_TOKENS": "300"}, {"EMBEDDING_CHUNK_TOKENS": "ollama=500"}):
            assert wiring.chunk_size(from_env(named | said), wiring.agreed_model(from_env(named | said), client.store)) == (
                300,
                100,
            )


def test_after_a_downgrade_no_server_knows_a_model_that_had_prefixes(registered, psql):
    done = run_command(registered, "db", "downgrade", "0008", "--yes", "--reason", "a test")

    assert done.returncode == 0, done.stderr
    assert psql("SELECT name FROM embedding_models WHERE provider = 'openai'") == [(f"{NAME}#with-prefixes",)]
    assert psql("SELECT name FROM embedding_models WHERE provider = 'hashing'") == [("hashing-v1",)]
