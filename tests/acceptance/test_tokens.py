"""Named tokens: what each scope opens on every path of the OpenAPI document, and what no tenant's token ever learns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx
import psycopg
import pytest

from embedq.decide.access import Area, Need, Scope
from embedq.http.needs import need_of
from embedq.local.servers import Servers
from embedq.store import Store
from embedq.store.database import Database
from tests.acceptance.service import ATTACHED, SOURCE, Served, hashing_at, serving
from tests.conftest import fresh_database
from tests.support import run_command, until

# Whatever the request before has switched off is on again, and the articles are there.
AS_USUAL = """
    UPDATE embedding_worker_status SET mode = 'celery', is_running = true, submissions_accepted = true, maintenance = NULL;
    DELETE FROM articles; DELETE FROM article_versions;
    INSERT INTO articles (id, tenant_id, title, content, slug, metadata) VALUES
        ('own', 'acme', 'Tea', 'Steep it', 'tea', '{}'), ('theirs', 'rival', 'SECRET-PLAN', 'SECRET-TEXT', 'secret-slug', '{"SECRET-KEY": 1}');
    UPDATE articles SET content = 'SECRET-LATER' WHERE id = 'theirs'
"""
THEIRS = re.compile("SECRET", re.IGNORECASE)
Make = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def environment(servers: Servers, template: str) -> Iterator[dict[str, str]]:
    with fresh_database(servers, template) as url:
        yield hashing_at(url, servers.redis_url)


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


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = served.stranger.get("/openapi.json").json()
    return found


@pytest.fixture
def holder(served: Served, store: Store) -> Iterator[Make]:
    """A client with a new token of that scope and those limits."""
    made: list[httpx.Client] = []

    def make(scope: str, **limits: Any) -> httpx.Client:
        name = f"holder-{len(made)}-{id(made)}"
        secret, _ = store.tokens.create(name, Scope(scope), "a test", **limits)
        client = httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {secret}"}, timeout=30)
        client.headers["X-Name"] = name
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def examples_of(document: dict[str, Any], operation: dict[str, Any]) -> list[Any]:
    if "requestBody" not in operation:
        return [None]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    name = (schema if "$ref" in schema else next(one for one in schema["anyOf"] if "$ref" in one))["$ref"].rsplit("/", 1)[1]
    found: list[Any] = document["components"]["schemas"][name]["examples"]
    return [{key: value for key, value in one.items() if key != "tenant_id"} for one in found]


def needed(operation: dict[str, Any]) -> str | None:
    """The scope that the document names."""
    scopes = [scope for one in operation.get("security", []) for scopes in one.values() for scope in scopes]
    return scopes[0] if scopes else None


@pytest.mark.parametrize("scope", tuple(Scope))
def test_a_token_opens_every_path_of_its_scope_and_no_other(
    scope: Scope, document: dict[str, Any], served: Served, holder: Make, live: psycopg.Connection[Any]
) -> None:
    client, wrong = holder(scope), []
    for method, path, operation in operations(document):
        wanted = needed(operation)
        may = wanted is None or scope.includes(Scope(wanted))
        for example in examples_of(document, operation):
            live.execute(AS_USUAL + ATTACHED)
            answer = client.request(
                method,
                path.replace("{article_id}", "own").replace("{name}", SOURCE),
                json=example,
                params={"tenant_id": "acme"} if "{article_id}" in path else None,
            )
            opened = answer.is_success or "has no vector" in answer.text
            if (opened if may else answer.status_code == 403) and str(answer.status_code) in operation["responses"]:
                continue
            wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")

    assert wrong == []


def test_every_path_says_which_scope_it_needs(document: dict[str, Any]) -> None:
    said = {f"{method} {path}": needed(operation) for method, path, operation in operations(document)}

    assert {path for path, scope in said.items() if scope is None} == {"GET /health", "GET /health/ready"}
    assert said["POST /api/search"] == "read"
    assert said["POST /api/articles"] == "write"
    assert said["GET /admin/embedding/status"] == "read"
    assert said["POST /admin/mode"] == "admin"


def test_a_path_about_which_nothing_is_said_is_an_error() -> None:
    assert need_of("DELETE", "/api/anything") == Need(Scope.WRITE, Area.ARTICLES)
    assert need_of("POST", "/admin/anything") == Need(Scope.ADMIN, Area.OPERATOR)
    with pytest.raises(KeyError):
        need_of("GET", "/secrets")


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_tenants_token_learns_nothing_of_another_tenants_on_any_path(
    scope: str, document: dict[str, Any], served: Served, holder: Make, live: psycopg.Connection[Any]
) -> None:
    """By its id, by its slug, by naming the tenant and by leaving it out, on all paths of the document; and nothing of theirs changes."""
    client, wrong = holder(scope, tenant="acme"), []
    before = None
    for method, path, operation in operations(document):
        names = [parameter["name"] for parameter in operation.get("parameters", [])]
        for key in ("theirs", "secret-slug", "own") if "{article_id}" in path else ("",):
            for tenant in (None, "rival", "acme", "default") if "tenant_id" in names or "requestBody" in operation else (None,):
                for example in examples_of(document, operation):
                    live.execute(AS_USUAL)
                    before = live.execute(OF_RIVAL).fetchall()
                    body = (
                        example
                        if tenant is None or example is None or "tenant_id" in names
                        else example | {"tenant_id": tenant}
                    )
                    query = {"tenant_id": tenant} if tenant is not None and "tenant_id" in names else None
                    answer = client.request(method, path.replace("{article_id}", key), json=body, params=query)
                    what = f"{method} {path} of {key} as {tenant}: {answer.status_code} {answer.text[:300]}"
                    if THEIRS.search(answer.text.replace("secret-slug", "")) or live.execute(OF_RIVAL).fetchall() != before:
                        wrong.append(what)
                    if key in ("theirs", "secret-slug") and answer.is_success:
                        wrong.append(what)
                    if tenant in ("rival", "default") and answer.is_success:
                        wrong.append(what)
                    if path.startswith(("/admin", "/metrics")) and answer.status_code != 403:
                        wrong.append(what)

    assert before
    assert wrong == []


OF_RIVAL = "SELECT id, title, content, slug, metadata, version, xmin::text FROM article_texts WHERE tenant_id = 'rival'"


def test_what_a_tenants_token_writes_lists_and_finds_is_its_tenants(
    served: Served, holder: Make, live: psycopg.Connection[Any], environment: dict[str, str]
) -> None:
    live.execute(AS_USUAL)
    client = holder("write", tenant="acme")

    made = client.post("/api/articles", json={"title": "Coffee", "id": "coffee"})
    batch = client.post("/api/articles/batch", json={"articles": [{"title": "Milk", "id": "milk"}]})
    listed = client.get("/api/articles").json()["articles"]
    taken = client.post("/api/articles", json={"title": "Mine", "id": "theirs"})

    assert (made.status_code, made.json()["tenant_id"], batch.status_code) == (201, "acme", 200)
    assert {(one["id"], one["tenant_id"]) for one in listed} == {("coffee", "acme"), ("milk", "acme"), ("own", "acme")}
    assert taken.status_code == 409
    assert not THEIRS.search(taken.text)


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/articles"), ("POST", "/admin/mode"), ("PUT", "/api/articles/own")])
def test_a_token_is_checked_before_a_byte_of_the_body(method: str, path: str, served: Served, holder: Make) -> None:
    """Of a body that never ends only the first byte is sent, and the answer is there."""
    secret = secret_of(holder("read"))
    with closing(HTTPConnection(served.url.removeprefix("http://"), timeout=30)) as connection:
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"Bearer {secret}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(b"1\r\n{\r\n")
        answer = connection.getresponse()

        assert answer.status == 403
        assert 'scope="' in (answer.getheader("www-authenticate") or "")


def test_a_revoked_token_opens_nothing_a_second_later_in_any_process(
    served: Served, environment: dict[str, str], holder: Make, store: Store
) -> None:
    client = holder("read")
    with serving(environment) as second:
        urls = (served.url, second.url)
        before = [client.get(f"{url}/api/articles").status_code for url in urls]
        store.tokens.revoke(client.headers["X-Name"], "a test")
        until(lambda: [client.get(f"{url}/api/articles").status_code for url in urls] == [401, 401], timeout_s=1.5)

    assert before == [200, 200]


def test_an_expired_token_opens_nothing(served: Served, holder: Make, live: psycopg.Connection[Any]) -> None:
    client = holder("read", expires_s=3600)
    before = client.get("/api/articles").status_code
    live.execute("UPDATE embedding_tokens SET expires_at = now() WHERE name = %s", [client.headers["X-Name"]])

    until(lambda: client.get("/api/articles").status_code == 401, timeout_s=5)

    assert before == 200


def test_both_secrets_open_during_the_overlap_and_the_new_one_after(served: Served, holder: Make, store: Store) -> None:
    old = holder("read", tenant="acme")
    name = old.headers["X-Name"]
    secret, row, _ = store.tokens.rotate(name, "a test", overlap_s=600)
    new = {"Authorization": f"Bearer {secret}"}
    during = [old.get("/api/articles").status_code, served.stranger.get("/api/articles", headers=new).status_code]
    secret, *_ = store.tokens.rotate(name, "a test", overlap_s=0)
    during.append(served.stranger.get("/api/articles", headers={"Authorization": f"Bearer {secret}"}).status_code)

    until(lambda: served.stranger.get("/api/articles", headers=new).status_code == 401, timeout_s=5)
    store.tokens.revoke(name, "a test")
    until(lambda: old.get("/api/articles").status_code == 401, timeout_s=5)
    assert during == [200, 200, 200]
    assert (row["scope"], row["tenant_id"]) == ("read", "acme")


def test_a_rate_holds_for_all_processes_together(
    served: Served, environment: dict[str, str], holder: Make, store: Store
) -> None:
    from embedq.decide.access import rate_of

    client = holder("read", rate=rate_of("5/h"))
    with serving(environment) as second:
        answers = [client.get(f"{url}/api/articles") for _ in range(4) for url in (served.url, second.url)]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * 5 + [429] * 3
    assert 0 < int(answers[-1].headers["retry-after"]) <= 720


def test_a_token_of_a_source_is_refused_where_nothing_is_limited_to_a_source(
    served: Served, holder: Make, document: dict[str, Any]
) -> None:
    client = holder("write", source="products")

    statuses = {
        client.request(method, path.replace("{article_id}", "own")).status_code
        for method, path, operation in operations(document)
        if needed(operation) and path != "/api/search"
    }
    elsewhere = [
        client.post("/api/search", json={"query": "x", "source": other}).status_code
        for other in ("posts", "all", ["products", "posts"])
    ]
    own = [client.post("/api/search", json={"query": "x", "source": source}) for source in (None, "products")]

    assert statuses == {403}
    assert elsewhere == [403, 403, 403]
    assert [(answer.status_code, "products" in answer.text) for answer in own] == [
        (404, True)
    ] * 2  # there is no such source yet


# The cockpit ---------------------------------------------------------------------------------------------------------------------


def signed_in(served: Served, secret: str) -> httpx.Client:
    client = httpx.Client(base_url=served.url, timeout=30)
    answer = client.post("/cockpit/signin", data={"token": secret})
    assert answer.status_code == 303, answer.text
    return client


def secret_of(client: httpx.Client) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def test_a_read_only_operator_sees_the_cockpit_and_may_change_nothing(
    served: Served, holder: Make, live: psycopg.Connection[Any]
) -> None:
    live.execute(AS_USUAL)
    with closing(signed_in(served, secret_of(holder("read")))) as operator:
        page = operator.get("/")
        form = re.search(r'name="form" value="([^"]+)"', page.text)
        assert form is not None
        data = {"form": form[1], "reason": "because", "mode": "off", "sure": "yes"}
        acts = {act: operator.post(f"/cockpit/{act}", data=data).status_code for act in ACTS}
        shown = operator.get("/cockpit/live").status_code

    assert "may look, and change nothing" in page.text
    assert 'id="levers"' not in page.text
    assert set(acts.values()) == {403}
    assert shown == 200
    assert live.execute("SELECT mode, is_running FROM embedding_worker_status").fetchall() == [("celery", True)]


ACTS = ("mode", "pause", "resume", "stop", "start", "emergency", "end-emergency", "retry")


def test_an_admins_acts_are_on_record_by_the_tokens_name_and_its_session_ends_with_it(
    served: Served, holder: Make, live: psycopg.Connection[Any], store: Store
) -> None:
    live.execute(AS_USUAL)
    holds = holder("admin")
    name = holds.headers["X-Name"]
    with closing(signed_in(served, secret_of(holds))) as operator:
        form = re.search(r'name="form" value="([^"]+)"', operator.get("/").text)
        assert form is not None
        done = operator.post("/cockpit/stop", data={"form": form[1], "reason": "a test"})
        by_http = holds.post("/admin/queue/shutdown-workers", json={"reason": "again"})
        store.tokens.revoke(name, "a test")
        until(lambda: "Sign in" in operator.get("/").text, timeout_s=5)
        after = operator.post("/cockpit/start", data={"form": form[1], "reason": "a test"})

    who = [
        row[0]
        for row in live.execute(
            "SELECT metadata->>'who' FROM embedding_audit_logs WHERE category = 'stop' ORDER BY id DESC LIMIT 2"
        )
    ]
    assert (done.status_code, by_http.status_code, after.status_code) == (303, 200, 303)
    assert all(each.startswith(f"{name}@127.0.0.1 (HTTP ") for each in who)
    assert live.execute("SELECT is_running FROM embedding_worker_status").fetchall() == [(False,)]


def test_a_tenants_token_does_not_open_the_cockpit(served: Served, holder: Make) -> None:
    client = holder("write", tenant="acme")

    by_form = served.stranger.post("/cockpit/signin", data={"token": secret_of(client)})
    by_header = [client.get(path).status_code for path in ("/", "/cockpit/live")]

    assert (by_form.status_code, by_header) == (401, [401, 401])


# The command line ----------------------------------------------------------------------------------------------------------------


def token_command(environment: Mapping[str, str], *arguments: str) -> Any:
    done = run_command(environment, "token", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_create_list_rotate_and_revoke_by_commands_leave_no_secret_behind(
    served: Served, environment: dict[str, str], live: psycopg.Connection[Any]
) -> None:
    made = token_command(
        environment, "create", "--name", "bot", "--scope", "read", "--tenant", "acme", "--expires", "30d", "--rate", "60/min"
    )
    taken = run_command(environment, "token", "create", "--name", "bot", "--scope", "read")
    used = served.stranger.get("/api/articles", headers={"Authorization": f"Bearer {made['token']}"})
    listed = [one for one in token_command(environment, "list") if one["name"] == "bot"]
    rotated = token_command(environment, "rotate", "bot", "--overlap", "1h")
    dry = token_command(environment, "revoke", "bot", "--dry-run")
    asked = run_command(environment, "token", "revoke", "bot")
    revoked = token_command(environment, "revoke", "bot", "--yes", "--reason", "it leaked")
    ended = [one["state"] for one in token_command(environment, "list", "--all") if one["name"] == "bot"]

    (row,) = listed
    assert used.status_code == 200
    assert row["last_used_at"] is not None
    assert (row["scope"], row["tenant_id"], row["rate"], row["state"]) == ("read", "acme", "60/min", "open")
    assert (taken.returncode, asked.returncode) == (2, 2)
    assert (len(dry["would_revoke"]), revoked["secrets"], set(ended)) == (2, 2, {"revoked"})
    stored = live.execute(
        "SELECT t::text FROM embedding_tokens t UNION ALL SELECT a::text FROM embedding_audit_logs a"
    ).fetchall()
    assert not any(secret in text for (text,) in stored for secret in (made["token"], rotated["token"]))
    said = live.execute(
        "SELECT message, metadata->>'reason' FROM embedding_audit_logs WHERE category = 'token' AND message LIKE 'token bot %'"
    )
    assert [message.split()[3] for message, _ in said] == ["created", "rotated;", "revoked"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--name", "", "--scope", "read"), id="no name"),
        pytest.param(("--name", "x" * 101, "--scope", "read"), id="a long name"),
        pytest.param(("--name", "x\ny", "--scope", "read"), id="a name of two lines"),
        pytest.param(("--name", "x", "--scope", "root"), id="an unknown scope"),
        pytest.param(("--name", "x", "--scope", "admin", "--tenant", "acme"), id="an admin of one tenant"),
        pytest.param(("--name", "x", "--scope", "read", "--tenant", ""), id="an empty tenant"),
        pytest.param(("--name", "x", "--scope", "read", "--expires", "soon"), id="no span"),
        pytest.param(("--name", "x", "--scope", "read", "--expires", "-3d"), id="a negative span"),
        pytest.param(("--name", "x", "--scope", "read", "--expires", "0s"), id="no time at all"),
        pytest.param(("--name", "x", "--scope", "read", "--expires", "nand"), id="not a number of days"),
        pytest.param(("--name", "x", "--scope", "read", "--rate", "0/min"), id="a rate of nothing"),
        pytest.param(("--name", "x", "--scope", "read", "--rate", "often"), id="no rate"),
    ],
)
def test_a_token_that_means_nothing_is_refused(environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = run_command(environment, "token", "create", *arguments)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
