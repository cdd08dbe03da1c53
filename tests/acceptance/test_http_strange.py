"""Strange requests, as somebody who means no good or has misread the manual sends them: each was wrong once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from embedq.local.servers import Servers
from tests.acceptance.service import ADMIN, FOR_ADMIN, FOR_ARTICLES, Served, empty, hashing_at, problem, serving
from tests.conftest import fresh_database

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def lasting(servers: Servers, database_url: str) -> Iterator[Served]:
    with serving(hashing_at(database_url, servers.redis_url)) as running:
        yield running


@pytest.fixture
def served(lasting: Served, database_url: str) -> Served:
    empty(database_url)
    return lasting


@pytest.fixture
def cockpit(served: Served) -> Iterator[tuple[httpx.Client, str]]:
    """A client that has signed in, and its forms' token."""
    with httpx.Client(base_url=served.url, follow_redirects=True, timeout=30) as client:
        page = client.post("/cockpit/signin", data={"token": ADMIN}).text
        found = re.search(r'name="form" value="([0-9a-f]+)"', page)
        assert found is not None
        yield client, found[1]


@pytest.mark.parametrize("key", ["日本", "té", "a&b=c;d", "☕", "+", "..."])
def test_an_id_of_any_alphabet_is_answered_with_an_address_that_leads_to_it(served: Served, key: str) -> None:
    made = served.articles.post("/api/articles", json={"title": "x", "id": key})

    assert made.status_code == 201, made.text
    assert served.articles.get(made.headers["location"]).json()["id"] == key


def test_a_misspelt_query_parameter_is_refused_and_never_means_another_tenant(served: Served) -> None:
    served.articles.post("/api/articles", json={"title": "mine", "id": "a", "slug": "tea"})

    answers = [
        served.articles.delete("/api/articles/tea", params={"tenant": "acme"}),
        served.articles.put("/api/articles/tea", params={"tenantid": "acme"}, json={"title": "x"}),
        served.articles.get("/api/articles", params={"cursor": "a"}),
        served.articles.post("/api/search", params={"k": 3}, json={"query": "x"}),
    ]

    assert [answer.status_code for answer in answers] == [422] * 4
    assert [problem(answer)["field"] for answer in answers] == ["tenant", "tenantid", "cursor", "k"]
    assert "tenant_id" in str(problem(answers[0])["next_step"])
    assert served.articles.get("/api/articles/tea").json()["title"] == "mine"


@pytest.mark.parametrize(
    ("starts_at", "minutes"),
    [("9999-12-31T23:59:59-14:00", None), ("0001-01-01T00:00:00+14:00", None), ("9999-12-31T00:00:00+00:00", 525_600)],
)
def test_a_window_beyond_every_calendar_is_refused(served: Served, starts_at: str, minutes: float | None) -> None:
    body = {"starts_at": starts_at, "minutes": minutes, "reason": "x"}

    answer = served.admin.post("/admin/maintenance/schedule", json=body)

    assert answer.status_code == 422
    assert problem(answer)["field"] == "starts_at"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        pytest.param("/admin/embedding/requeue", {"limit": "5"}, "limit", id="a number in quotes"),
        pytest.param("/admin/embedding/requeue", {"limit": True}, "limit", id="true as a number"),
        pytest.param("/admin/embedding/requeue", {"only_missing_embedding": "no"}, "only_missing_embedding", id="no in words"),
        pytest.param(
            "/admin/maintenance/schedule",
            {"starts_at": "2030-01-01T00:00:00Z", "reason": "x", "pause_submissions": 1},
            "pause_submissions",
            id="one as true",
        ),
    ],
)
def test_what_only_looks_like_a_number_or_a_truth_value_is_refused(
    served: Served, path: str, body: dict[str, Any], field: str
) -> None:
    answer = served.admin.post(path, json=body)

    assert answer.status_code == 422
    assert problem(answer)["field"] == field


@pytest.mark.parametrize("path", ["/health", "/api/articles", "/api/articles/a", "/docs", "/metrics", "/"])
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    served.articles.post("/api/articles", json={"title": "x", "id": "a"})
    headers = FOR_ADMIN if path in ("/metrics", "/") else FOR_ARTICLES

    head, get = (httpx.request(method, served.url + path, headers=headers) for method in ("HEAD", "GET"))

    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert (head.headers["content-type"], head.headers.get("etag")) == (get.headers["content-type"], get.headers.get("etag"))


def test_a_method_that_a_path_does_not_take_is_told_with_those_it_takes(served: Served) -> None:
    answers = [served.articles.request(method, "/health") for method in ("OPTIONS", "PATCH", "TRACE", "BREW")]

    assert [answer.status_code for answer in answers] == [405] * 4
    assert all("GET" in answer.headers["allow"] and problem(answer) for answer in answers)


def test_no_answer_may_be_framed_sniffed_kept_or_made_to_load_anything(served: Served) -> None:
    answers = [
        served.articles.get("/api/articles"),
        served.stranger.get("/api/articles"),
        served.stranger.get("/"),
        served.admin.get("/"),
        served.stranger.get("/docs"),
        served.stranger.get("/nowhere"),
        served.admin.get("/metrics"),
        served.stranger.get("/health"),
    ]

    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("field", ["reason", "mode", "priority", "error_class", "sure", "form"])
def test_a_nul_in_a_form_is_refused_and_changes_nothing(cockpit: tuple[httpx.Client, str], psql: Rows, field: str) -> None:
    client, form = cockpit
    filled = {"form": form, "reason": "x", "mode": "off", "priority": "low", "error_class": "e", "sure": "yes"}

    for act in ("mode", "retry", "pause"):
        assert client.post(f"/cockpit/{act}", data=filled | {field: filled[field] + "\0"}).status_code in (403, 422)

    assert psql("SELECT mode, paused_priorities FROM embedding_worker_status") == [("celery", [])]


def test_a_nul_in_the_cockpits_search_is_refused(cockpit: tuple[httpx.Client, str]) -> None:
    client, _ = cockpit

    assert [client.get("/", params=params).status_code for params in ({"q": "x\0"}, {"q": "x", "tenant": "\0"})] == [422, 422]


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_behind_a_proxy_with_tls_the_cookie_is_for_https_only(served: Served, scheme: str, secure: bool) -> None:
    host = served.url.removeprefix("http://")

    answer = httpx.post(f"{served.url}/cockpit/signin", data={"token": ADMIN}, headers={"Origin": f"{scheme}://{host}"})

    assert answer.status_code == 303
    assert ("secure" in answer.headers["set-cookie"].lower().split("; ")) is secure
    assert "httponly" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
@pytest.mark.parametrize("path", ["/cockpit/signin", "/cockpit/signout", "/cockpit/mode", "/admin/mode", "/api/articles"])
def test_no_page_of_another_site_can_make_a_browser_act(
    cockpit: tuple[httpx.Client, str], psql: Rows, path: str, headers: dict[str, str]
) -> None:
    client, form = cockpit

    answer = client.post(path, data={"form": form, "token": ADMIN, "mode": "off", "reason": "mischief"}, headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert psql("SELECT mode FROM embedding_worker_status") == [("celery",)]


def test_a_token_in_an_address_opens_nothing_and_is_not_logged(served: Served) -> None:
    answers = [
        served.stranger.get("/", params={"token": ADMIN}),
        served.stranger.get("/admin/queue/stats", params={"token": ADMIN}),
        served.stranger.get("/cockpit/signin", params={"token": ADMIN}),
        served.stranger.get(f"/api/articles/{ADMIN}"),
        served.stranger.post("/cockpit/signin", data={"token": ADMIN + "x"}),
    ]

    assert [answer.status_code for answer in answers] == [200, 401, 405, 401, 401]
    assert not any("Levers" in answer.text or ADMIN in answer.text for answer in answers)
    assert ADMIN not in served.process.output()


def test_of_different_articles_with_one_idempotency_key_at_once_one_is_written(served: Served, psql: Rows) -> None:
    def create(number: int) -> httpx.Response:
        body = {"title": f"Article {number % 2}"}
        return httpx.post(f"{served.url}/api/articles", json=body, headers=FOR_ARTICLES | {"Idempotency-Key": "k"}, timeout=30)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(create, range(10)))

    assert Counter(answer.status_code for answer in answers) == {201: 5, 422: 5}
    ((title,),) = psql("SELECT title FROM articles")
    assert {answer.json()["title"] for answer in answers if answer.status_code == 201} == {title}


@pytest.mark.parametrize(
    ("content_type", "body", "status", "field"),
    [
        ("text/plain", b'{"title": "x"}', 415, "Content-Type"),
        ("application/x-www-form-urlencoded", b"title=x", 415, "Content-Type"),
        ("", b'{"title": "x"}', 415, "Content-Type"),
        ("application/xml", b"<title>x</title>", 415, "Content-Type"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--", 415, "Content-Type"),
        ("application/json", b"[]", 422, "body"),
        ("application/json", b'"x"', 422, "body"),
        ("application/json", b"null", 422, "body"),
        ("application/json", b"", 422, "body"),
        ("application/json", '{"title": "x"}'.encode("utf-16"), 400, "body"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    served: Served, psql: Rows, content_type: str, body: bytes, status: int, field: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    answer = served.articles.post("/api/articles", content=body, headers=headers)

    assert answer.status_code == status
    assert problem(answer)["field"] == field
    assert psql("SELECT count(*) FROM articles") == [(0,)]
