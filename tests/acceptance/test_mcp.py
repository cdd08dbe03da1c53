"""MCP over both transports and in both eras of the protocol: tools by scope, what they do, and what no input breaks."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import httpx
import psycopg
import pytest

from embedq.decide.access import Scope, rate_of
from embedq.local.servers import Servers
from embedq.store import Store
from embedq.store.database import Database
from tests.acceptance.service import ADMIN, AUTH, TOKENS, Served, hashing_at, serving
from tests.agents import ACCEPT, Raw, agent, raw
from tests.conftest import fresh_database
from tests.support import start_poller, until

READ = {
    "list_articles",
    "get_article",
    "list_versions",
    "get_version",
    "search_articles",
    "similar_articles",
    "embedding_status",
    "wait_until_embedded",
}
WRITE = READ | {"create_article", "update_article", "delete_article", "restore_version"}
OPERATE = {"queue_status", "explain", "assess", "verify"}
TRANSPORTS = ("stdio", "http")
ERAS = ("legacy", "2026-07-28")
# A rival's article, with an earlier version, and our own.
AS_USUAL = """
    DELETE FROM articles; DELETE FROM article_versions;
    INSERT INTO articles (id, tenant_id, title, content, slug, metadata) VALUES
        ('own', 'acme', 'Tea', 'Steep it', 'tea', '{}'), ('theirs', 'rival', 'SECRET-PLAN', 'SECRET-TEXT', 'secret-slug', '{"SECRET-KEY": 1}');
    UPDATE articles SET content = 'SECRET-LATER' WHERE id = 'theirs'
"""
OF_RIVAL = "SELECT id, title, content, slug, metadata, version, xmin::text FROM article_texts WHERE tenant_id = 'rival'"
Made = Callable[..., str]


@pytest.fixture(scope="module")
def environment(servers: Servers, template: str) -> Iterator[dict[str, str]]:
    """Of processes that embed as they write."""
    with fresh_database(servers, template) as url:
        yield TOKENS | hashing_at(url, servers.redis_url) | {"EMBEDDING_QUEUE_ENABLED": "false"}


@pytest.fixture(scope="module")
def store(environment: dict[str, str]) -> Iterator[Store]:
    opened = Store(Database(environment["DATABASE_URL"]))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def live(environment: dict[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def served(environment: dict[str, str]) -> Iterator[Served]:
    with serving(environment) as running:
        yield running


@pytest.fixture
def token(store: Store) -> Made:
    """The secret of a new token."""

    def make(scope: str, **limits: Any) -> str:
        name = f"agent-{len(store.tokens.all(ended=True))}"
        return store.tokens.create(name, Scope(scope), "a test", **limits)[0]

    return make


def names(tools: Any) -> set[str]:
    return {tool.name for tool in tools.tools}


def run(work: Callable[[Any], Awaitable[Any]], *of: Any) -> Any:
    """The work with an agent, to its end."""

    async def whole() -> Any:
        async with agent(*of) as client:
            return await work(client)

    return asyncio.run(whole())


async def done(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """What the tool answers; AssertionError when it is an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    assert json.loads(result.content[0].text) == result.structured_content
    found: dict[str, Any] = result.structured_content
    return found


async def refused(client: Any, tool: str, **arguments: Any) -> str:
    """What a tool's error says."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.content
    said: str = result.content[0].text
    assert "\nnext: " in said
    return said


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ("read", READ),
        ("write", WRITE),
        ("admin", WRITE | OPERATE),
        ("of a tenant", WRITE),
        ("AUTH_TOKEN", WRITE),
        ("ADMIN_TOKEN", WRITE | OPERATE),
    ],
)
def test_a_tool_that_the_token_may_not_use_is_not_listed_and_not_done(
    transport: str, scope: str, wanted: set[str], environment: dict[str, str], served: Served, token: Made
) -> None:
    special = {"AUTH_TOKEN": AUTH, "ADMIN_TOKEN": ADMIN, "of a tenant": token("write", tenant="acme")}
    secret = special.get(scope) or token(scope)

    async def work(client: Any) -> tuple[set[str], list[str]]:
        listed = names(await client.list_tools())
        others = (WRITE | OPERATE) - listed
        return listed, [await refused(client, name, key="own", article="own") for name in sorted(others)]

    listed, errors = run(work, transport, environment, served.url, secret)

    assert listed == wanted
    assert all("there is no tool" in said for said in errors)


def test_without_a_token_the_service_is_closed_and_a_process_of_ones_own_works_on_articles(
    environment: dict[str, str], served: Served
) -> None:
    closed = [
        served.stranger.post("/mcp", json={}, headers=ACCEPT | headers).status_code
        for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer embedq_{'x' * 43}"})
    ]

    async def work(client: Any) -> set[str]:
        return names(await client.list_tools())

    assert closed == [401, 401, 401]
    assert run(work, "stdio", environment, "", "") == WRITE


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_tool_has_schemas_a_description_and_hints(
    transport: str, environment: dict[str, str], served: Served, token: Made
) -> None:
    async def work(client: Any) -> list[Any]:
        return list((await client.list_tools()).tools)

    tools = {tool.name: tool for tool in run(work, transport, environment, served.url, token("admin"))}

    assert [name for name, tool in tools.items() if not (tool.description and tool.input_schema and tool.output_schema)] == []
    reads = {name for name, tool in tools.items() if tool.annotations.read_only_hint}
    destroys = {name for name, tool in tools.items() if tool.annotations.destructive_hint}
    assert reads == READ | OPERATE
    assert destroys == {"update_article", "delete_article", "restore_version"}
    assert not tools["create_article"].annotations.idempotent_hint


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_agent_writes_finds_reads_changes_and_brings_back(
    transport: str, era: str, environment: dict[str, str], served: Served, token: Made, live: psycopg.Connection[Any]
) -> None:
    live.execute(AS_USUAL)
    text = "# Tea\n\nHow to brew it\n\n## Green\n\nSeventy degrees\n\n## Black\n\nBoiling\n"

    async def work(client: Any) -> None:
        made = await done(client, "create_article", title="Tea", content=text, slug="brew", metadata={"kind": "drink"})
        key = made["id"]
        assert made["tenant_id"] == "acme"
        both = await done(client, "search_articles", query=["brew tea", "boiling"], k=1, filter={"kind": "drink"}, hybrid=True)
        assert [[hit["article_id"] for hit in answer["results"]] for answer in both["answers"]] == [[key], [key]]
        assert all(len(hit["snippet"]) < len(text) * 3 for answer in both["answers"] for hit in answer["results"])
        whole = await done(client, "get_article", article="brew")
        assert (whole["content"], whole["sections"], whole["next_start"]) == (text, ["Tea", "Green", "Black"], None)
        section = await done(client, "get_article", article=key, section="green")
        assert section["content"] == "## Green\n\nSeventy degrees\n\n"
        part = await done(client, "get_article", article=key, start=2, length=3)
        assert (part["content"], part["next_start"], part["characters"]) == ("Tea", 5, len(text))

        changed = await done(client, "update_article", article=key, version=whole["version"], content="Cold")
        conflict = await refused(client, "update_article", article=key, version=whole["version"], content="Lost")
        assert f"it is version {changed['version']} now" in conflict
        assert "get_article" in conflict
        state = await done(client, "embedding_status", article=key)
        assert (state["embedded"], state["waiting_since"]) == (True, None)
        assert (await done(client, "wait_until_embedded", article=key, timeout_s=5))["embedded"]

        history = await done(client, "list_versions", article=key)
        assert [one["version"] for one in history["versions"]] == [1, 2]
        assert (await done(client, "get_version", article=key, version=1))["content"] == text
        assert "versions kept: 1, 2" in await refused(client, "get_version", article=key, version=9)
        restored = await done(client, "restore_version", article=key, version=1)
        assert restored["version"] == 3
        assert "conflict" in await refused(client, "delete_article", article=key, version=1)
        assert await done(client, "delete_article", article=key, version=3) == {"deleted": key}
        assert "there is no article" in await refused(client, "get_article", article=key)
        assert (await done(client, "restore_version", article=key, version=2))["id"] == key
        page = await done(client, "list_articles", limit=1)
        assert page["next"] is not None
        assert len((await done(client, "list_articles", after=page["next"]))["articles"]) == 1
        assert "has no vector" in await refused(client, "similar_articles", article="tea")
        assert (await done(client, "similar_articles", article=key, k=3, fold=True))["results"] == []
        # Snippets have a budget, and what is beyond it is said.
        small = await done(client, "search_articles", query="tea", max_characters=200, k=50)
        assert sum(len(hit["snippet"]) + len(hit["title"]) for hit in small["answers"][0]["results"]) <= 200

    run(work, transport, environment, served.url, token("write", tenant="acme"), era)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_articles_are_resources(
    transport: str, environment: dict[str, str], served: Served, token: Made, live: psycopg.Connection[Any]
) -> None:
    live.execute(AS_USUAL)
    live.execute("UPDATE articles SET content = 'Pour it', slug = 'how/to tea' WHERE id = 'own'")

    async def work(client: Any) -> Any:
        listed = await client.list_resources()
        templates = await client.list_resource_templates()
        texts = [
            (await client.read_resource(uri)).contents[0].text
            for uri in (listed.resources[0].uri, "article://acme/how%2Fto%20tea", "article://acme/own/versions/1")
        ]
        errors = []
        for uri in (
            "article://rival/theirs",
            "article://acme/theirs",
            "article://acme/nothing",
            "article://acme",
            "file:///etc/passwd",
        ):
            with pytest.raises(Exception, match="next: ") as wrong:
                await client.read_resource(uri)
            errors.append(str(wrong.value))
        return listed.resources, templates.resource_templates, texts, errors

    resources, templates, texts, errors = run(work, transport, environment, served.url, token("read", tenant="acme"))

    assert [one.uri for one in resources] == ["article://acme/own"]
    assert {one.uri_template for one in templates} == {
        "article://{tenant}/{article}",
        "article://{tenant}/{article}/versions/{version}",
    }
    assert texts == ["Tea\n\nPour it", "Tea\n\nPour it", "Tea\n\nSteep it"]
    assert not any("SECRET" in said for said in errors)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_operator_sees_how_the_queue_goes(
    transport: str, environment: dict[str, str], served: Served, live: psycopg.Connection[Any]
) -> None:
    live.execute(AS_USUAL)

    async def work(client: Any) -> list[dict[str, Any]]:
        return [
            await done(client, name, **arguments)
            for name, arguments in (("queue_status", {}), ("explain", {"key": "own"}), ("assess", {}), ("verify", {}))
        ]

    status, explained, assessed, verified = run(work, transport, environment, served.url, ADMIN)

    assert status["mode"] == "celery"
    assert status["open"] >= 1
    assert (explained["article_id"], explained["tenant_id"], explained["task_status"]) == ("own", "acme", "pending")
    assert explained["reasons"]
    assert assessed["recommended"]
    assert verified["well"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_waiting_tells_its_progress_and_ends_when_the_text_is_embedded(
    transport: str, environment: dict[str, str], served: Served, token: Made, live: psycopg.Connection[Any]
) -> None:
    live.execute("UPDATE embedding_worker_status SET mode = 'database'")
    live.execute("DELETE FROM articles; INSERT INTO articles (id, title) VALUES ('late', 'Tea')")
    told: list[str | None] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async def work(client: Any) -> Any:
        early = await done(client, "wait_until_embedded", article="late", timeout_s=0.1)
        waiting = asyncio.create_task(
            client.call_tool("wait_until_embedded", {"article": "late", "timeout_s": 60}, progress_callback=heard)
        )
        while not told:
            await asyncio.sleep(0.05)
        worker = await asyncio.to_thread(start_poller, environment | {"EMBEDDING_QUEUE_ENABLED": "true"})
        try:
            return early, (await waiting).structured_content
        finally:
            await asyncio.to_thread(worker.kill)

    try:
        early, found = run(work, transport, environment, served.url, token("read"))
    finally:
        live.execute("UPDATE embedding_worker_status SET mode = 'celery'")

    assert (early["embedded"], early["status"]) == (False, "queued")
    assert early["waiting_since"] is not None
    assert found["embedded"]


# Tenants and tokens ---------------------------------------------------------------------------------------------------------------


def made_up(tool: Any, key: str) -> dict[str, Any]:
    """Arguments that fit the tool's schema, about the article `key`."""
    values = {
        "article": key,
        "version": 1,
        "query": "SECRET-PLAN secret text",
        "title": "Mine",
        "content": "Mine",
        "key": key,
        "timeout_s": 0.1,
        "k": 50,
        "limit": 200,
    }
    return {name: values[name] for name in tool.input_schema["properties"] if name in values}


@pytest.mark.parametrize("scope", ["read", "write"])
def test_no_tool_tells_a_tenants_token_of_another_tenants_articles(
    scope: str, environment: dict[str, str], served: Served, token: Made, live: psycopg.Connection[Any]
) -> None:
    """All tools of the list, by id, by slug, by naming the tenant: nothing of theirs is in an answer, and nothing of it changes."""

    async def work(client: Any) -> list[str]:
        wrong = []
        for tool in (await client.list_tools()).tools:
            for key in ("theirs", "secret-slug"):
                for tenant in ({}, {"tenant": "rival"}, {"tenant": "acme"}, {"tenant": "default"}):
                    live.execute(AS_USUAL)
                    before = live.execute(OF_RIVAL).fetchall()
                    arguments = made_up(tool, key) | tenant
                    result = await client.call_tool(tool.name, arguments)
                    said = result.content[0].text
                    heard = re.search(
                        "SECRET", said.replace("secret-slug", "").replace("SECRET-PLAN secret text", ""), re.IGNORECASE
                    )
                    foreign = tenant.get("tenant") in ("rival", "default") and not result.is_error
                    if (
                        heard
                        or foreign
                        or live.execute(OF_RIVAL).fetchall() != before
                        or ("article" in arguments and not result.is_error)
                    ):
                        wrong.append(f"{tool.name} {arguments}: {said}")
        return wrong

    assert run(work, "http", environment, served.url, token(scope, tenant="acme")) == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_revoked_token_does_nothing_more_on_a_connection_that_is_open(
    transport: str, environment: dict[str, str], served: Served, token: Made, store: Store
) -> None:
    secret = token("read")
    name = next(row["name"] for row in store.tokens.all() if row["id"] == max(one["id"] for one in store.tokens.all()))
    with raw(transport, environment, served.url, secret) as client:
        before = client.call("list_articles", "{}")
        store.tokens.revoke(name, "a test")
        closed = until(lambda: closed_answer(client), timeout_s=5)

    assert before["result"]["isError"] is False
    assert "token" in closed


def closed_answer(client: Raw) -> str:
    answer = client.call("list_articles", "{}")
    is_closed = answer.get("status") == 401 or answer.get("result", {}).get("isError")
    return json.dumps(answer) if is_closed else ""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_rate_holds_for_tools(transport: str, environment: dict[str, str], served: Served, token: Made) -> None:
    with raw(transport, environment, served.url, token("read", rate=rate_of("3/h"))) as client:
        answers = [json.dumps(client.call("list_articles", "{}")) for _ in range(5)]

    assert ["used up its rate" in said for said in answers] == [False] * 3 + [True] * 2


# Bad input ------------------------------------------------------------------------------------------------------------------------

LONG = json.dumps("x" * 1_000_000)
# The text of a JSON value, and whether any string argument must be refused for it.
BAD: Mapping[str, str] = {
    "a NUL": r'"a\u0000b"',
    "half of a pair": r'"a\ud800b"',
    "the other half": r'"\udc00"',
    "a million characters": LONG,
    "a list": "[1]",
    "an object": '{"a": {"b": []}}',
    "a number": "17",
    "true": "true",
    "a huge number": "1" + "0" * 400,
    "a negative number": "-5",
    "a fraction": "1.5",
    "not a number": '"NaN"',
    "deep": "[" * 500 + "]" * 500,
    "a NUL in a key": r'{"a\u0000": 1}',
    "empty": '""',
}
ALWAYS_WRONG = ("a NUL", "half of a pair", "the other half")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_to_any_argument_of_any_tool_is_a_tools_error_on_a_connection_that_lives(
    transport: str, kind: str, environment: dict[str, str], served: Served, token: Made
) -> None:
    wrong = []
    with raw(transport, environment, served.url, token("admin")) as client:
        tools = client.ask('{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{}}')["result"]["tools"]
        for tool in tools:
            for name, schema in {**tool["inputSchema"].get("properties", {}), "nobody-knows": {}}.items():
                given = {one: json.dumps(VALID.get(one, "x")) for one in tool["inputSchema"].get("required", ())} | {
                    name: BAD[kind]
                }
                text = "{" + ",".join(f"{json.dumps(one)}:{value}" for one, value in given.items()) + "}"
                answer = client.call(tool["name"], text)
                if kind == "deep" and (answer.get("next_step") or "\nnext: " in answer.get("error", {}).get("message", "")):
                    continue  # it is no message: said so, before any tool
                result = answer.get("result")
                must = kind in ALWAYS_WRONG or name == "nobody-knows"
                if (
                    result is None
                    or (must and not result["isError"])
                    or (result["isError"] and "\nnext: " not in result["content"][0]["text"])
                ):
                    wrong.append(f"{tool['name']}.{name} {schema}: {str(result)[:300]}")
        assert client.call("list_articles", "{}")["result"]["isError"] is False

    assert wrong == []


VALID = {"version": 1, "timeout_s": 0.1}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "arguments", ['"text"', "[]", "17", '{"query": 1e999}', "{}", "{", '{"k": ' + "9" * 5000 + "}", "nonsense"]
)
def test_what_is_no_message_is_answered_too(
    transport: str, arguments: str, environment: dict[str, str], served: Served, token: Made
) -> None:
    with raw(transport, environment, served.url, token("read")) as client:
        answer = client.call("search_articles", arguments)
        after = client.call("list_articles", "{}")

    assert "error" in answer or "next_step" in answer or answer["result"]["isError"]
    assert after["result"]["isError"] is False


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Origin": "http://evil.example"}, 403, id="another page"),
        pytest.param(
            {"Origin": "http://evil.example", "Host": "evil.example"}, 403, id="a page under a name that was bound anew"
        ),
        pytest.param({"Host": "embedq.example"}, 200, id="a program, behind a proxy"),
    ],
)
def test_no_page_of_a_browser_reaches_it_under_another_name(
    served: Served, token: Made, headers: dict[str, str], status: int
) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    answer = httpx.post(
        f"{served.url}/mcp", json=message, headers=ACCEPT | {"Authorization": f"Bearer {token('read')}"} | headers
    )

    assert answer.status_code == status


def test_it_takes_post_alone_and_asks_for_the_token_before_the_body(served: Served) -> None:
    assert served.articles.get("/mcp").headers["allow"] == "POST"
    assert served.stranger.post("/mcp", content=b"x" * 100_000).status_code == 401


def test_what_answers_initialize_is_all_that_is_imported() -> None:
    heavy = {
        "httpx2",
        "mcp.client",
        "mcp.server.mcpserver",
        "embedq.client",
        "embedq.store",
        "embedq.mcp.calls",
        "numpy",
        "fastapi",
        "celery",
        "alembic",
    }
    program = "import sys\nfrom embedq.mcp.starting import deferred\nwith deferred():\n    import embedq.mcp.stdio\nprint(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "mcp.server.lowlevel.server" in loaded
    assert heavy & set(loaded) == set()
