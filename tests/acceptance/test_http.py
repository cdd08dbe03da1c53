"""The HTTP service as a process of its own, over real HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedq.local.servers import Servers
from embedq.operations.metric_catalogue import exposed_names
from tests.acceptance.service import ADMIN, AUTH, FOR_ADMIN, FOR_ARTICLES, TOKENS, Served, empty, hashing_at, problem, serving
from tests.conftest import fresh_database
from tests.support import free_port, run_command, start_poller, until

WRITES = 1000 if os.environ.get("HTTP_WRITES_AT_FULL_SIZE") else 300


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """One database and one service for the file: starting one takes seconds. Each test finds it as new."""
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def lasting(servers: Servers, database_url: str) -> Iterator[Served]:
    with serving(hashing_at(database_url, servers.redis_url)) as running:
        yield running


@pytest.fixture
def served(lasting: Served, environment: dict[str, str], as_new: None) -> Served:
    return lasting


@pytest.fixture
def as_new(database_url: str) -> None:
    empty(database_url)


# Articles ----------------------------------------------------------------------------------------------------------------------


def test_an_article_is_written_read_edited_and_deleted(served: Served, psql: Callable[..., list[tuple[object, ...]]]) -> None:
    made = served.articles.post(
        "/api/articles", json={"title": "Tea", "content": "Brew it", "slug": "tea", "priority": "urgent", "reason": "menu"}
    )
    read = served.articles.get("/api/articles/tea")
    edited = served.articles.put("/api/articles/tea", json={"content": "Steep it"}, headers={"If-Match": read.headers["etag"]})
    history = served.articles.get("/api/articles/tea/versions").json()
    gone = served.articles.delete("/api/articles/tea")

    assert made.status_code == 201
    assert made.headers["location"] == f"/api/articles/{made.json()['id']}"
    assert read.json()["embedding"] | {"task_id": 0} == {
        "status": "queued",
        "task_id": 0,
        "priority": "urgent",
        "place": "broker",
        "attempts": 0,
        "retry_at": None,
        "eta_s": None,
        "waits_for": "no worker is running that may claim it",
        "error": None,
    }
    assert edited.json()["version"] == 2
    assert [(one["version"], one["content"]) for one in history["versions"]] == [(1, "Brew it"), (2, "Steep it")]
    assert gone.status_code == 204
    assert served.articles.get("/api/articles/tea").status_code == 404
    assert psql("SELECT priority, metadata->>'reason', status FROM embedding_tasks") == [("urgent", "update", "cancelled")]


def test_a_create_repeated_with_its_idempotency_key_makes_one_article(
    served: Served, psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    body = {"title": "Tea", "content": "Brew it", "slug": "tea", "metadata": {"topic": "drinks"}}

    def create(_: int) -> httpx.Response:
        return httpx.post(f"{served.url}/api/articles", json=body, headers=FOR_ARTICLES | {"Idempotency-Key": "k1"}, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(8)))
    other = served.articles.post("/api/articles", json=body | {"content": "Another"}, headers={"Idempotency-Key": "k1"})
    elsewhere = served.articles.post("/api/articles", json=body | {"tenant_id": "acme"}, headers={"Idempotency-Key": "k1"})

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert other.status_code == 422
    assert problem(other)["field"] == "Idempotency-Key"
    assert elsewhere.status_code == 201
    assert elsewhere.json()["id"] != answers[0].json()["id"]
    assert psql("SELECT count(*) FROM articles") == [(2,)]


def test_an_idempotency_key_still_answers_after_an_edit_and_not_after_a_delete(served: Served) -> None:
    body, key = {"title": "Tea", "content": "Brew it"}, {"Idempotency-Key": "k2"}
    made = served.articles.post("/api/articles", json=body, headers=key).json()
    served.articles.put(f"/api/articles/{made['id']}", json={"content": "Steep it"})

    edited = served.articles.post("/api/articles", json=body, headers=key)
    served.articles.delete(f"/api/articles/{made['id']}")
    deleted = served.articles.post("/api/articles", json=body, headers=key)

    assert edited.status_code == 201
    assert edited.json()["version"] == 2
    assert deleted.status_code == 410
    assert problem(deleted)["type"] == "urn:embedq:gone"


def test_a_batch_is_written_whole_or_not_at_all(served: Served, psql: Callable[..., list[tuple[object, ...]]]) -> None:
    served.articles.post("/api/articles", json={"title": "Tea", "slug": "tea"})

    refused = served.articles.post(
        "/api/articles/batch", json={"articles": [{"title": "Milk"}, {"title": "Tea again", "slug": "tea"}]}
    )
    wrong = served.articles.post("/api/articles/batch", json={"articles": [{"title": "Milk"}, {"title": "x", "slug": " edge"}]})
    too_many = served.articles.post("/api/articles/batch", json={"articles": [{"title": str(number)} for number in range(201)]})
    left = psql("SELECT title FROM articles")
    replaced = served.articles.post(
        "/api/articles/batch",
        json={
            "replace": True,
            "articles": [{"title": "Milk"}, {"title": "Tea again", "slug": "tea"}, {"title": "Oat", "id": "oat"}],
        },
    )

    assert (refused.status_code, wrong.status_code, too_many.status_code) == (409, 422, 422)
    assert problem(wrong)["field"] == "articles[1].slug"
    assert left == [("Tea",)]
    assert [one["outcome"] for one in replaced.json()["articles"]] == ["created", "changed", "created"]


def test_pages_show_every_article_once(served: Served) -> None:
    served.articles.post(
        "/api/articles/batch", json={"articles": [{"title": str(number), "id": f"a{number:02}"} for number in range(25)]}
    )

    seen, after = [], ""
    while after is not None:
        page = served.articles.get("/api/articles", params={"limit": 10, "after": after}).json()
        seen += [article["id"] for article in page["articles"]]
        after = page["next"]

    assert seen == [f"a{number:02}" for number in range(25)]


def test_what_was_written_is_found(served: Served, environment: dict[str, str]) -> None:
    served.admin.post("/admin/mode", json={"mode": "database", "reason": "test"})
    with start_poller(environment):
        for title, text in (("Tea", "steep the leaves in hot water"), ("Trains", "leave from platform nine")):
            served.articles.post("/api/articles", json={"title": title, "content": text, "slug": title.lower()})
        until(lambda: served.articles.get("/api/articles/trains").json()["embedding_status"] == "ready")
        until(lambda: served.articles.get("/api/articles/tea").json()["embedding_status"] == "ready")

        found = served.articles.post("/api/search", json={"query": "hot water for leaves", "k": 1}).json()

    assert [hit["slug"] for hit in found["results"]] == ["tea"]


def test_search_that_is_switched_off_says_so(served: Served) -> None:
    served.admin.post("/admin/mode", json={"mode": "off", "reason": "the model is a mistake"})

    refused = served.articles.post("/api/search", json={"query": "tea"})

    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert "disabled" in str(problem(refused)["detail"])


# Who may -----------------------------------------------------------------------------------------------------------------------

PATHS = [
    ("GET", "/api/articles", None, AUTH),
    ("POST", "/api/articles", {"title": "x"}, AUTH),
    ("GET", "/api/articles/x", None, AUTH),
    ("PUT", "/api/articles/x", {"title": "y"}, AUTH),
    ("DELETE", "/api/articles/x", None, AUTH),
    ("POST", "/api/articles/batch", {"articles": [{"title": "z"}]}, AUTH),
    ("GET", "/api/articles/x/versions", None, AUTH),
    ("POST", "/api/search", {"query": "x"}, AUTH),
    ("GET", "/admin/embedding/status", None, ADMIN),
    ("POST", "/admin/embedding/requeue", {"reason": "t"}, ADMIN),
    ("GET", "/admin/queue/health", None, ADMIN),
    ("GET", "/admin/queue/stats", None, ADMIN),
    ("POST", "/admin/queue/shutdown-workers", None, ADMIN),
    ("POST", "/admin/mode", {"mode": "hybrid", "reason": "t"}, ADMIN),
    ("POST", "/admin/maintenance/emergency-mode", {"reason": "t"}, ADMIN),
    ("POST", "/admin/maintenance/disable-emergency-mode", None, ADMIN),
    ("POST", "/admin/maintenance/pause-task-submission", None, ADMIN),
    ("POST", "/admin/maintenance/resume-task-submission", None, ADMIN),
    (
        "POST",
        "/admin/maintenance/schedule",
        {"starts_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "reason": "t"},
        ADMIN,
    ),
    ("GET", "/metrics", None, ADMIN),
]


def test_every_path_is_closed_without_its_own_token_and_answers_with_it(served: Served) -> None:
    other = {AUTH: ADMIN, ADMIN: AUTH}
    served.articles.post("/api/articles", json={"title": "X", "id": "x"})

    without = {
        f"{method} {path}": served.stranger.request(method, path, json=body).status_code for method, path, body, _ in PATHS
    }
    wrong = {
        f"{method} {path}": served.stranger.request(
            method, path, json=body, headers={"Authorization": f"Bearer {other[token]}"}
        ).status_code
        for method, path, body, token in PATHS
    }
    right = {
        f"{method} {path}": served.stranger.request(
            method, path, json=body, headers={"Authorization": f"Bearer {token}"}
        ).status_code
        for method, path, body, token in PATHS
    }

    assert set(without.values()) == {401}
    assert set(wrong.values()) == {401}
    # The history outlives the article, which the list deletes before it asks for it.
    assert set(right.values()) <= {200, 201, 204}, right


def test_health_and_docs_need_no_token_and_tell_no_address(served: Served, environment: dict[str, str]) -> None:
    health, docs, schema = (served.stranger.get(path) for path in ("/health", "/docs", "/openapi.json"))

    assert (health.status_code, docs.status_code, schema.status_code) == (200, 200, 200)
    assert health.json()["ready"]
    assert environment["DATABASE_URL"].rsplit("/", 1)[1] not in health.text


def test_a_tenant_neither_sees_nor_touches_anothers_articles(served: Served) -> None:
    served.articles.post("/api/articles", json={"title": "Secret plans", "id": "plans", "slug": "p", "tenant_id": "acme"})

    read = served.articles.get("/api/articles/plans")
    edit = served.articles.put("/api/articles/plans", json={"title": "Mine"}, params={"tenant_id": "other"})
    delete = served.articles.delete("/api/articles/plans", params={"tenant_id": "other"})
    history = served.articles.get("/api/articles/plans/versions", params={"tenant_id": "other"})
    taken = served.articles.post("/api/articles/batch", json={"replace": True, "articles": [{"title": "Mine", "id": "plans"}]})
    listed = served.articles.get("/api/articles").json()

    assert [answer.status_code for answer in (read, edit, delete, history, taken)] == [404, 404, 404, 404, 409]
    assert not any("Secret" in answer.text for answer in (read, edit, delete, history, taken))
    assert listed["articles"] == []
    assert served.articles.get("/api/articles/plans", params={"tenant_id": "acme"}).json()["title"] == "Secret plans"


def test_without_tokens_the_service_starts_on_loopback_only_and_says_so(environment: dict[str, str]) -> None:
    open_house = environment | {"AUTH_TOKEN": "", "ADMIN_TOKEN": ""}

    beyond = run_command(open_house, "serve", "--host", "0.0.0.0", "--port", "0")
    half = run_command(open_house | {"AUTH_TOKEN": AUTH}, "serve", "--host", "0.0.0.0", "--port", "0")
    with serving(open_house) as served:
        said = served.process.output()
        status = served.stranger.get("/admin/embedding/status").status_code
        rebound = served.stranger.get("/admin/embedding/status", headers={"Host": "evil.example"}).status_code

    assert beyond.returncode == 2
    assert "AUTH_TOKEN and ADMIN_TOKEN are not set" in beyond.stderr
    assert half.returncode == 2
    assert "ADMIN_TOKEN is not set" in half.stderr
    assert "any user of this machine may do everything" in said
    assert (status, rebound) == (200, 403)


def test_another_sites_page_is_refused(served: Served) -> None:
    answer = served.articles.post("/api/articles", json={"title": "x"}, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert problem(answer)["type"] == "urn:embedq:elsewhere"


# Bad input ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"title": "x", "titel": "y"}, "titel", id="an unknown key"),
        pytest.param({"title": "", "content": " "}, "content", id="nothing to embed"),
        pytest.param({"title": "x\0y"}, "title", id="a NUL"),
        pytest.param({"title": "x", "priority": "asap"}, "priority", id="an unknown priority"),
        pytest.param({"title": "x", "slug": "y" * 600}, "slug", id="a long slug"),
        pytest.param({"title": "x", "tenant_id": "a/b"}, "tenant_id", id="a tenant with a slash"),
        pytest.param({"title": "x", "metadata": {"a": "\0"}}, "metadata", id="a NUL in the metadata"),
        pytest.param({"title": ["x"]}, "title", id="a list as title"),
    ],
)
def test_bad_input_is_told_with_its_field_and_a_next_step(served: Served, body: dict[str, object], field: str) -> None:
    answer = served.articles.post("/api/articles", json=body)

    assert answer.status_code == 422
    assert problem(answer)["field"] == field


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b'{"title": "\\ud800"}', 422, id="half a surrogate pair"),
        pytest.param(b'{"title": "x", "metadata": {"a": 1e999}}', 422, id="infinity"),
        pytest.param(
            b'{"title": "x", "metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400, id="nested without end"
        ),
        pytest.param(b'{"title": "x", "metadata": {"a": ' + b"9" * 9000 + b"}}", 400, id="a number without end"),
        pytest.param(b"\xff\xfe", 422, id="no UTF-8"),
        pytest.param(b"{", 422, id="half an object"),
    ],
)
def test_json_that_nobody_can_store_is_refused_and_the_service_lives(served: Served, raw: bytes, status: int) -> None:
    answer = served.articles.post("/api/articles", content=raw, headers={"Content-Type": "application/json"})

    assert answer.status_code == status, answer.text
    assert problem(answer)
    assert served.stranger.get("/health").status_code == 200


def test_a_body_that_is_too_large_is_refused_however_it_is_sent(served: Served) -> None:
    large = json.dumps({"title": "x", "content": "y" * (17 * 1024 * 1024)}).encode()

    def in_pieces() -> Iterator[bytes]:
        for at in range(0, len(large), 65_536):
            yield large[at : at + 65_536]

    declared = served.articles.post("/api/articles", content=large, headers={"Content-Type": "application/json"})
    try:
        streamed = served.articles.post(
            "/api/articles", content=in_pieces(), headers={"Content-Type": "application/json"}
        ).status_code
    except (httpx.WriteError, httpx.RemoteProtocolError):
        streamed = 413  # the answer came while we were still writing

    assert (declared.status_code, streamed) == (413, 413)


def test_an_unexpected_path_method_or_id_is_a_problem_and_no_traceback(served: Served) -> None:
    answers = [
        served.articles.get("/nowhere"),
        served.articles.patch("/api/articles"),
        served.articles.get("/api/articles/%00"),
        served.articles.get("/api/articles", params={"limit": 0}),
        served.articles.get("/api/articles/" + "x" * 3000),
    ]

    assert [answer.status_code for answer in answers] == [404, 405, 422, 422, 404]
    assert all(problem(answer) and "Traceback" not in answer.text for answer in answers)


# The operator ------------------------------------------------------------------------------------------------------------------


def test_an_act_is_on_record_with_its_reason_and_the_requests_id(
    served: Served, psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    answer = served.admin.post(
        "/admin/mode", json={"mode": "database", "reason": "Redis is ill"}, headers={"X-Request-ID": "incident-7"}
    )

    assert answer.headers["x-request-id"] == "incident-7"
    assert answer.json()["after"] == "database"
    ((message, who),) = psql("SELECT message, metadata->>'who' FROM embedding_audit_logs WHERE category = 'mode'")
    assert "Redis is ill" in str(message)
    assert "incident-7" in str(who)
    until(lambda: "request_id=incident-7" in served.process.output())


def test_emergency_mode_takes_over_from_the_broker_and_can_be_ended(served: Served, environment: dict[str, str]) -> None:
    served.articles.post("/api/articles", json={"title": "Tea", "slug": "tea"})
    before = served.articles.get("/api/articles/tea").json()["embedding"]["place"]

    done = served.admin.post("/admin/maintenance/emergency-mode", json={"reason": "Redis is gone"})
    during = served.articles.get("/api/articles/tea").json()["embedding"]["place"]
    ended = served.admin.post("/admin/maintenance/disable-emergency-mode", json={"reason": "Redis is back"})

    assert (before, during) == ("broker", "table")
    assert done.status_code == 200
    assert ended.json()["after"] == "celery"
    assert served.admin.get("/admin/embedding/status").json()["mode"] == "celery"


def test_while_submissions_are_paused_articles_are_saved_and_get_their_tasks_afterwards(
    served: Served, psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    served.admin.post("/admin/maintenance/pause-task-submission", json={"reason": "new Redis"})
    made = served.articles.post("/api/articles", json={"title": "Tea", "slug": "tea"})
    between = psql("SELECT count(*) FROM embedding_tasks")

    resumed = served.admin.post("/admin/maintenance/resume-task-submission", json={"reason": "done"})

    assert made.status_code == 201
    assert "no task" in made.json()["embedding"]["waits_for"]
    assert between == [(0,)]
    assert resumed.json()["tasks_made"] == 1
    assert psql("SELECT count(*) FROM embedding_tasks") == [(1,)]


def test_failed_tasks_are_requeued(served: Served, psql: Callable[..., list[tuple[object, ...]]]) -> None:
    served.articles.post("/api/articles/batch", json={"articles": [{"title": "a"}, {"title": "b"}]})
    psql("UPDATE embedding_tasks SET status = 'failed'")

    answer = served.admin.post("/admin/embedding/requeue", json={"status": "failed", "limit": 1, "reason": "fixed"})

    assert answer.json()["requeued"] == 1
    assert sorted(psql("SELECT status FROM embedding_tasks")) == [("failed",), ("pending",)]


def test_shut_down_workers_claim_nothing_more(
    served: Served, environment: dict[str, str], psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    served.admin.post("/admin/mode", json={"mode": "database", "reason": "test"})
    served.admin.post("/admin/queue/shutdown-workers", json={"reason": "the wrong model"})
    served.articles.post("/api/articles", json={"title": "Tea", "slug": "tea"})

    with start_poller(environment):
        until(lambda: psql("SELECT mode_seen FROM embedding_workers WHERE mode_seen IS NOT NULL"))

        assert served.articles.get("/api/articles/tea").json()["embedding_status"] == "queued"
        assert served.articles.get("/api/articles/tea").json()["embedding"]["waits_for"].startswith("embedding is stopped")


# When things are away -----------------------------------------------------------------------------------------------------------


def test_no_write_of_many_at_once_is_lost(served: Served, psql: Callable[..., list[tuple[object, ...]]]) -> None:
    statuses = write_many(served.url, WRITES)[0]

    assert statuses == {201: WRITES}
    assert psql("SELECT count(*) FROM articles") == [(WRITES,)]
    assert psql("SELECT count(*) FROM embedding_tasks") == [(WRITES,)]


def test_with_broker_and_provider_dead_articles_are_saved_all_the_same(
    environment: dict[str, str], as_new: None, psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    dead = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "OLLAMA_BASE_URL": nobody}
    with serving(environment | dead) as served:
        statuses = write_many(served.url, WRITES)[0]
        health = served.stranger.get("/health").json()

    assert statuses == {201: WRITES}
    assert psql("SELECT count(*) FROM articles") == [(WRITES,)]
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'pending'") == [(WRITES,)]
    assert health["ready"]
    assert health["status"] == "degraded"
    assert not health["checks"]["broker"]["ok"]


def test_a_database_that_goes_away_is_a_503_with_retry_after_and_then_all_is_well_again(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with Servers(tmp_path) as own:
        its = environment | {"DATABASE_URL": own.database_url, "REDIS_URL": own.redis_url}
        assert run_command(its, "db", "upgrade").returncode == 0
        with serving(its) as served:
            assert served.articles.post("/api/articles", json={"title": "before"}).status_code == 201

            own.postgres.stop()
            away = served.articles.post("/api/articles", json={"title": "meanwhile"})
            unready = served.stranger.get("/health/ready")
            page = served.admin.get("/")
            metrics = served.admin.get("/metrics")
            own.postgres.start()
            until(lambda: served.articles.post("/api/articles", json={"title": "after"}).status_code == 201, 15)

            assert away.status_code == 503
            assert int(away.headers["retry-after"]) >= 1
            assert problem(away)["type"] == "urn:embedq:database-away"
            assert own.database_url.rsplit("@", 1)[-1] not in away.text
            assert (unready.status_code, page.status_code) == (503, 503)
            assert "embedq_database_up 0.0" in metrics.text


def write_many(url: str, count: int, at_once: int = WRITES) -> tuple[Counter[int], list[float]]:
    """`count` creates, `at_once` of them under way: the statuses, and each one's seconds."""
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    lock = threading.Lock()
    with httpx.Client(
        base_url=url, headers=FOR_ARTICLES, timeout=60, limits=httpx.Limits(max_connections=at_once, keepalive_expiry=60)
    ) as client:

        def write(number: int) -> None:
            started = time.monotonic()
            status = client.post("/api/articles", json={"title": f"Article {number}", "content": "some text " * 20}).status_code
            with lock:
                statuses[status] += 1
                seconds.append(time.monotonic() - started)

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(write, range(count)))
    return statuses, seconds


def test_logs_are_json_when_asked_for_and_hold_no_text_and_no_token(environment: dict[str, str]) -> None:
    with serving(environment | {"EMBEDDING_LOG_FORMAT": "json"}) as served:
        served.articles.post("/api/articles", json={"title": "Confidential words"}, headers={"X-Request-ID": "r1"})
        until(lambda: '"request_id": "r1"' in served.process.output())
        lines = [json.loads(line) for line in served.process.output().splitlines() if line.startswith("{")]

    (line,) = [line for line in lines if line.get("request_id") == "r1"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/articles", 201)
    assert not any(word in served.process.output() for word in ("Confidential", AUTH, ADMIN))


def test_a_port_that_is_taken_is_told(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        refused = run_command(environment | TOKENS, "serve", "--port", str(taken.getsockname()[1]))

    assert refused.returncode == 1
    assert "next:" in refused.stderr


def test_the_admin_token_opens_the_cockpit_and_nothing_else_does(served: Served) -> None:
    stranger, wrong, right = (
        served.stranger.get("/"),
        served.stranger.get("/", headers=FOR_ARTICLES),
        served.stranger.get("/", headers=FOR_ADMIN),
    )

    assert "Admin token" in stranger.text
    assert "Levers" not in stranger.text
    assert wrong.status_code == 401
    assert "Levers" not in wrong.text
    assert "Levers" in right.text
    assert ADMIN not in right.text


# What can be watched --------------------------------------------------------------------------------------------------------------


def samples(page: str) -> dict[str, float]:
    """Each name's samples, added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_workers_show_what_they_measured_each_on_a_port_of_its_own_and_log_every_task(
    served: Served, environment: dict[str, str], psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    port = free_port()
    watched = {"EMBEDDING_METRICS_PORT": str(port), "EMBEDDING_LOG_FORMAT": "json", "EMBEDDING_LOG_LEVEL": "debug"}
    served.admin.post("/admin/mode", json={"mode": "database", "reason": "test"})

    with start_poller(environment | watched) as first, start_poller(environment | watched) as second:
        served.articles.post(
            "/api/articles/batch", json={"articles": [{"title": f"Confidential {n}", "id": f"a{n}"} for n in range(20)]}
        )
        until(lambda: psql("SELECT count(*) FROM embedding_tasks WHERE status = 'completed'") == [(20,)])
        ports = [re.search(r"metrics of \S+ are at (http://\S+)", each.output()) for each in (first, second)]
        pages = [httpx.get(found[1]).text for found in ports if found]
        lines = [json.loads(line) for each in (first, second) for line in each.output().splitlines() if line.startswith("{")]
    service = served.admin.get("/metrics").text

    measured = [samples(page) for page in pages]
    assert len({found[1] for found in ports if found}) == 2
    assert sum(found.get("embedq_claimed_total", 0) for found in measured) == 20
    assert sum(found.get("embedq_waiting_seconds_count", 0) for found in measured) == 20
    # Beside the texts each process asks for its canary at first.
    assert sum(found.get("embedq_provider_inputs_total", 0) for found in measured) in (21, 22)
    assert {name for page in (*measured, samples(service)) for name in page} <= exposed_names()
    assert not any("Confidential" in text for text in (*pages, service, json.dumps(lines)))
    settled = [line for line in lines if line.get("outcome") == "completed"]
    assert {line["article"] for line in settled} == {f"a{n}" for n in range(20)}
    assert all(line["delivery"] == "poller" and line["worker"] and line["task"] and line["attempt"] == 1 for line in settled)


def test_the_services_metrics_tell_the_state_of_the_house(served: Served) -> None:
    served.articles.post("/api/articles", json={"title": "Tea", "priority": "high"})
    served.admin.post("/admin/queue/shutdown-workers", json={"reason": "test"})
    until(lambda: 'embedq_broker_messages{queue="high",state="waiting"} 1.0' in served.admin.get("/metrics").text)

    page = served.admin.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'embedq_mode{mode="celery"} 1.0',
        "embedq_running 0.0",
        "embedq_database_up 1.0",
        "embedq_broker_up 1.0",
        'embedq_open_tasks{place="broker",priority="high"} 1.0',
        'embedq_broker_messages{queue="high",state="waiting"} 1.0',
        'embedq_provider_up{provider="hashing"} 1.0',
    ):
        assert line in page.text


def test_the_status_is_the_same_answer_by_command_and_over_http(served: Served, environment: dict[str, str]) -> None:
    by_command = json.loads(run_command(environment, "status", "--json").stdout)
    over_http = served.admin.get("/admin/embedding/status").json()

    assert over_http.keys() == by_command.keys()
    same = {"mode", "is_running", "reason", "by", "throttle", "submissions_accepted", "paused_priorities", "open"}
    assert {name: over_http[name] for name in same} == {name: by_command[name] for name in same}
