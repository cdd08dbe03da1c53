"""The console's pages over real HTTP: each page and filter, paging, sessions, hostile texts, unknown names."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from embedq.local.servers import Servers
from tests.acceptance.service import ADMIN, AUTH, FOR_ADMIN, Served, empty, hashing_at, serving
from tests.conftest import fresh_database

Rows = Callable[..., list[tuple[Any, ...]]]
PAGES = ("/tasks", "/errors", "/workers", "/queues", "/models", "/sources", "/procedures", "/audit")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e{{7*7}}"


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def world(servers: Servers, database_url: str) -> dict[str, str]:
    return hashing_at(database_url, servers.redis_url)


@pytest.fixture(scope="module")
def lasting(world: dict[str, str]) -> Iterator[Served]:
    with serving(world) as running:
        yield running


@pytest.fixture
def served(lasting: Served, database_url: str, psql: Rows) -> Served:
    empty(database_url)
    psql("DELETE FROM embedding_workers")
    psql("DELETE FROM performance_metrics")
    return lasting


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    """A client that has signed in."""
    with httpx.Client(base_url=served.url, follow_redirects=True, timeout=60) as client:
        client.post("/cockpit/signin", data={"token": ADMIN})
        yield client


def shown(answer: httpx.Response, status: int = 200) -> str:
    """The page's text, as a reader sees it."""
    assert answer.status_code == status, answer.text
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def listed(answer: httpx.Response) -> list[int]:
    """The numbers of the tasks on a page of tasks, in order."""
    return [int(number) for number in re.findall(r'<tr><td class="tight"><a href="/tasks/(\d+)">', answer.text)]


def following(answer: httpx.Response) -> str | None:
    found = re.search(r'rel="next" href="([^"]+)"', answer.text)
    return html.unescape(found[1]) if found else None


def articles(psql: Rows, number: int, **columns: str) -> None:
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", '{value}'" for value in columns.values())
    psql(
        f"INSERT INTO articles (id, title, content{names}) SELECT 'a' || n, 'Article ' || n, 'text ' || n{values} FROM generate_series(1, {number}) n"
    )


def fail(psql: Rows, where: str = "true", error: str = "InputRefused", message: str = "too long") -> None:
    psql(
        f"UPDATE embedding_tasks SET status = 'failed', error_class = %s, error_message = %s, attempts = 1 WHERE {where}",
        error,
        message,
    )


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


# Pages --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_an_empty_installation_is_there(browser: httpx.Client, page: str) -> None:
    answer = browser.get(page)

    assert answer.status_code == 200, answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.fixture
def furnished(served: Served, psql: Rows) -> Served:
    """Tasks in every status, two classes of error, a worker that holds one, a procedure, samples."""
    articles(psql, 24)
    fail(psql, "id IN (1, 2, 3)")
    fail(psql, "id = 4", "ProviderBusy", "503 again and again")
    psql("UPDATE embedding_tasks SET status = 'skipped', completed_at = now() WHERE id = 5")
    psql("UPDATE embedding_tasks SET status = 'cancelled', completed_at = now() WHERE id = 6")
    psql("UPDATE article_texts SET title = 'A new title' WHERE id = 'a3'")
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, queues, alive_until)"
        " VALUES ('poller', 'poller@host', 'host', 77, '{high,normal}', now() + interval '1 hour')"
    )
    psql(
        "UPDATE embedding_tasks SET status = 'processing', lease_holder = (SELECT max(id) FROM embedding_workers), claims = 1,"
        " delivery = 'poller', processed_at = now() WHERE id = 7"
    )
    psql(
        "INSERT INTO embedding_audit_logs (category, message, metadata) VALUES ('procedure', 'emergency: begun',"
        ' \'{"run": "abcd1234", "kind": "emergency", "step": null, "state": "begun", "who": "ann", "reason": "Redis"}\')'
    )
    return served


WHOLE = (
    *PAGES,
    "/",
    "/tasks/1",
    "/tasks/7",
    "/tasks/8",
    "/articles/a1",
    "/articles/a3",
    "/errors?error=InputRefused",
    "/procedures/abcd1234",
    "/procedures?plan=emergency",
    "/models?count=1",
    "/tasks/act/retry?status=failed",
    "/tasks/act/cancel",
    "/tasks/act/discard?task=1",
    "/tasks?sort=ended",
    "/queues?window=7d",
)


@pytest.mark.parametrize("page", WHOLE)
def test_a_page_can_be_read_by_everybody(furnished: Served, browser: httpx.Client, page: str) -> None:
    """Landmarks, one heading, names for every field, chart, table and section; nothing that needs JavaScript, nothing inline."""
    answer = browser.get(page)
    elements = Elements(answer.text)

    assert answer.status_code == 200, answer.text
    assert [len(elements.named(tag)) for tag in ("main", "h1")] == [1, 1]
    assert "`" not in answer.text
    assert elements.named("html")[0]["lang"] == "en"
    assert "title" in [tag for tag, _ in elements.found]
    assert [each for each in elements.named("script") if not (each.get("src") or "").startswith("/")] == []
    assert [(tag, each) for tag, each in elements.found if any(name.startswith("on") or name == "style" for name in each)] == []
    ids = [each["id"] for _, each in elements.found if "id" in each]
    assert sorted(ids) == sorted(set(ids))
    assert [
        each for each in elements.named("section") if each.get("aria-labelledby") not in ids and not each.get("aria-label")
    ] == []
    assert [each for each in elements.named("svg", "progress") if not each.get("aria-label")] == []
    if page != "/":
        assert [each for each in elements.named("th") if each.get("scope") not in ("col", "row")] == []
    fields = re.sub(r"<label[^>]*>.*?</label>", "", answer.text, flags=re.S)
    labelled = re.findall(r'<label for="([^"]+)"', answer.text)
    bare = [each for each in Elements(fields).named("input", "select", "textarea") if each.get("type") != "hidden"]
    assert [each for each in bare if each.get("id") not in labelled] == []


def test_every_link_of_every_page_leads_somewhere(furnished: Served, browser: httpx.Client) -> None:
    seen, waiting = set[str](), ["/tasks"]
    while waiting:
        address = waiting.pop()
        if address in seen or len(seen) > 400:
            continue
        seen.add(address)
        answer = browser.get(address)
        assert answer.status_code == 200, address
        if not address.startswith("/docs"):
            waiting += [
                each["href"].split("#")[0]
                for each in Elements(answer.text).named("a")
                if (each.get("href") or "").startswith("/")
            ]

    assert {urlsplit(each).path for each in seen} >= {
        *PAGES,
        "/",
        "/tasks/1",
        "/articles/a1",
        "/procedures/abcd1234",
        "/tasks/act/retry",
    }


def test_a_task_tells_its_life(furnished: Served, browser: httpx.Client, psql: Rows) -> None:
    psql(
        'UPDATE embedding_tasks SET attempts = 2, metadata = metadata || \'{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}\','
        ' errors = \'[{"at": "2026-01-31T10:20:30+00:00", "attempt": 1, "class": "ProviderBusy", "message": "try later",'
        ' "worker": "w1", "delivery": "celery"}]\' WHERE id = 1'
    )

    text = shown(browser.get("/tasks/1"))

    assert "attempt 1 failed ProviderBusy: try later (celery on w1)" in text
    assert "0af7651916cd43dd8448eb211c80319c" in text
    assert "its task failed: too long" in text
    assert "embedq explain 1" in text
    assert "embedq retry 1 --reason" in text


def test_a_task_in_work_names_its_worker_and_the_worker_names_the_task(furnished: Served, browser: httpx.Client) -> None:
    assert "poller@host on host, pid 77, alive" in shown(browser.get("/tasks/7"))
    assert re.search(r'href="/tasks/7">7</a>', browser.get("/workers").text)
    assert "kill -TERM 77" in shown(browser.get("/workers"))


def test_an_article_tells_texts_vectors_and_tasks(furnished: Served, browser: httpx.Client) -> None:
    text = shown(browser.get("/articles/a3"))

    assert "A new title" in text
    assert "hashing/hashing-v1/64 active none" in text
    assert "Restore version 1" in text
    assert "embedq articles reindex a3" in text


def test_an_article_is_found_by_its_slug_and_by_an_id_with_anything_in_it(
    served: Served, browser: httpx.Client, psql: Rows
) -> None:
    odd = "a/b?c#d%e é<b>"
    psql("INSERT INTO articles (id, title, slug) VALUES (%s, 'Odd', 'tea')", odd)

    by_slug = browser.get("/articles/tea")
    (linked,) = {
        each["href"] for each in Elements(browser.get("/tasks").text).named("a") if "/articles/" in (each.get("href") or "")
    }

    assert by_slug.url.path == "/articles/" + odd
    assert linked == "/articles/" + quote(odd, safe="")
    assert "Odd" in shown(browser.get(linked))


def test_of_a_deleted_article_what_is_left_is_shown(furnished: Served, browser: httpx.Client, psql: Rows) -> None:
    psql("DELETE FROM articles WHERE id = 'a3'")

    text = shown(browser.get("/articles/a3"))

    assert "was deleted" in text
    assert "Restore version 2" in text


def test_errors_are_told_by_class_with_tenants_and_messages(furnished: Served, browser: httpx.Client, psql: Rows) -> None:
    psql("UPDATE embedding_tasks SET tenant_id = 'acme', error_message = 'too long by ' || id WHERE id IN (1, 2)")

    page = browser.get("/errors?error=InputRefused")
    text = shown(page)

    assert "InputRefused 3 acme default" in text
    assert "ProviderBusy 1 default" in text
    assert "too long by N 2" in text
    assert "embedq retry --error InputRefused --canary" in text
    assert 'href="/tasks?status=failed&amp;tenant=acme&amp;error=InputRefused"' in page.text


def test_queues_tell_depth_and_consumers(furnished: Served, browser: httpx.Client) -> None:
    text = shown(browser.get("/queues"))

    assert re.search(r"normal 17 0 1 0 [\d.]+ s 0\.0/s poller@host", text)
    assert re.search(r"urgent 0 0 0 0 – 0\.0/s none", text)


@pytest.mark.parametrize(("window", "told"), [("10m", "10 minutes"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days")])
def test_charts_are_drawn_from_the_samples(served: Served, browser: httpx.Client, psql: Rows, window: str, told: str) -> None:
    psql(
        "INSERT INTO performance_metrics (timestamp, metric, labels, value) SELECT now() - n * interval '10 seconds', 'depth',"
        ' \'{"status": "pending", "priority": "low", "dispatched": false}\', 40 FROM generate_series(0, 30) n'
    )
    psql(
        "INSERT INTO performance_metrics (metric, labels, value)"
        ' VALUES (\'settled\', \'{"status": "completed", "delivery": "poller"}\', 600)'
    )

    page = browser.get(f"/queues?window={window}")
    depth, ended = (each["aria-label"] for each in Elements(page.text).named("svg"))

    assert depth == f"Open tasks by priority, tasks, of the last {told}. Newest: low 40"
    assert ended is not None
    assert ended.startswith(f"Tasks that ended, a second, of the last {told}. Newest: completed ")
    assert "<polyline" in page.text
    assert ">40</text>" in page.text


def test_audit_is_searched(served: Served, browser: httpx.Client, psql: Rows) -> None:
    psql(
        "INSERT INTO embedding_audit_logs (category, level, message, metadata, timestamp) VALUES"
        " ('retry', 'info', 'retry: 3', '{\"who\": \"ann\", \"reason\": \"fixed\"}', now() - interval '2 hours'),"
        " ('cancel', 'warning', 'cancel: 1', '{\"who\": \"bob\"}', now())"
    )

    def lines(query: str) -> tuple[bool, bool]:
        text = shown(browser.get("/audit?" + query))
        return "retry: 3" in text, "cancel: 1" in text

    assert lines("") == (True, True)
    assert lines("category=retry") == (True, False)
    assert lines("level=warning") == (False, True)
    assert lines("who=ann") == (True, False)
    assert lines("text=fixed") == (True, False)
    assert lines("newer=1h") == (False, True)


# Filters and paging --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("status=failed", [4, 3, 2, 1]),
        ("status=skipped", [5]),
        ("status=processing", [7]),
        ("status=pending&sort=oldest", [*range(8, 25)]),
        ("error=ProviderBusy", [4]),
        ("text=again", [4]),
        ("text=AGAIN%25again", [4]),
        ("priority=high", [9, 8]),
        ("tenant=acme", [12]),
        ("source=import", [13]),
        ("article=a14", [6]),
        ("article=tea", [7]),
        ("older=1d", [16]),
        ("newer=1d&status=failed", [4, 3, 2, 1]),
        ("task=17", [17]),
        ("status=failed&error=InputRefused&sort=oldest", [1, 2, 3]),
        ("status=failed&tenant=nobody", []),
        ("sort=ended", [5, 6]),
        ("article=a14&sort=ended", [6]),
    ],
)
def test_a_filter_shows_what_it_means(
    furnished: Served, browser: httpx.Client, psql: Rows, query: str, wanted: list[int]
) -> None:
    psql("UPDATE embedding_tasks SET priority = 'high' WHERE id IN (8, 9)")
    psql("UPDATE embedding_tasks SET tenant_id = 'acme' WHERE id = 12")
    psql('UPDATE embedding_tasks SET metadata = \'{"reason": "import"}\' WHERE id = 13')
    psql("UPDATE article_texts SET slug = 'tea' WHERE id = 'a15'")
    psql("UPDATE embedding_tasks SET created_at = now() - interval '2 days' WHERE id = 16")
    psql("UPDATE embedding_tasks SET completed_at = now() + id * interval '-1 second' WHERE id IN (5, 6)")
    psql("UPDATE embedding_tasks SET completed_at = NULL WHERE status = 'failed'")

    answer = browser.get("/tasks?" + query)

    assert listed(answer) == wanted
    assert f"{len(wanted)} task" in shown(answer)


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "priority=soon",
        "sort=odd",
        "newer=1y",
        "older=-5s",
        "newer=nans",
        "task=a1",
        "task=1e3",
        "tenant=%00",
        "after=x",
        "after=1@when",
        "text=" + "x" * 600,
    ],
)
def test_a_filter_that_means_nothing_is_told(browser: httpx.Client, query: str) -> None:
    assert "—" in shown(browser.get("/tasks?" + query), 422)


@pytest.mark.parametrize("query", ["level=loud", "newer=soon", "text=%00", "after=-1"])
def test_a_filter_of_the_audit_log_that_means_nothing_is_told(browser: httpx.Client, query: str) -> None:
    assert "—" in shown(browser.get("/audit?" + query), 422)


@pytest.mark.parametrize(
    "query", ["", "sort=oldest", "sort=ended", "status=failed", "status=failed&sort=ended", "tenant=acme&sort=oldest"]
)
def test_paging_leaves_nothing_out_and_repeats_nothing(served: Served, browser: httpx.Client, psql: Rows, query: str) -> None:
    """Also while tasks are made, and end, in between; of equal ends the number decides."""
    articles(psql, 230, tenant_id="acme")
    psql(
        "UPDATE embedding_tasks SET status = 'failed', error_class = 'x', completed_at = date_trunc('hour', now()) - (id / 40) * interval '1 s'"
    )
    seen: list[int] = []
    address: str | None = "/tasks?" + query

    while address:
        answer = browser.get(address)
        seen += listed(answer)
        address = following(answer)
        psql("INSERT INTO articles (title) VALUES ('meanwhile')")

    old = [number for number in seen if number <= 230]
    order = psql("SELECT array_agg(id ORDER BY completed_at DESC, id DESC) FROM embedding_tasks WHERE id <= 230")[0][0]
    if "ended" not in query:
        order = sorted(order, reverse="oldest" not in query)
    assert old == order
    assert len(seen) == len(set(seen))


def test_the_audit_log_is_paged(served: Served, browser: httpx.Client, psql: Rows) -> None:
    psql("INSERT INTO embedding_audit_logs (category, message) SELECT 'x', 'entry ' || n FROM generate_series(1, 130) n")
    seen: list[str] = []
    address: str | None = "/audit?category=x"

    while address:
        answer = browser.get(address)
        seen += re.findall(r"entry (\d+)", answer.text)
        address = following(answer)
        psql("INSERT INTO embedding_audit_logs (category, message) VALUES ('x', 'later')")

    assert seen == [str(number) for number in range(130, 0, -1)]


def test_an_address_with_a_filter_shows_the_filter_again(browser: httpx.Client) -> None:
    page = browser.get("/tasks", params={"status": "failed", "tenant": 'a&b"c', "sort": "ended"})

    assert [each["value"] for each in Elements(page.text).named("input") if each.get("name") == "tenant"] == ['a&b"c']
    assert "<option selected>failed</option>" in page.text


# Who may come in -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, "/tasks/1", "/articles/a1", "/procedures/x", "/tasks/act/retry"])
def test_without_a_session_there_is_the_form_to_sign_in(furnished: Served, page: str) -> None:
    # A wrong token is counted, so that few can be tried: one page stands for all.
    wrong = [{"Authorization": f"Bearer {AUTH}"}] if page == "/tasks" else []
    for headers in ({}, {"Cookie": "embedq_cockpit=1.2.3"}, *wrong):
        answer = httpx.get(furnished.url + page, headers=headers)

        assert answer.status_code == 401
        assert 'type="password"' in answer.text
        assert "InputRefused" not in answer.text
        assert "too long" not in answer.text


def test_signing_in_leads_back_to_the_page(served: Served) -> None:
    with httpx.Client(base_url=served.url, follow_redirects=True) as client:
        fields = Elements(client.get("/tasks?status=failed&tenant=a%26b").text).named("input")
        back = next(each["value"] for each in fields if each.get("name") == "back")
        page = client.post("/cockpit/signin", data={"token": ADMIN, "back": back})

    assert str(page.url) == served.url + "/tasks?status=failed&tenant=a%26b"
    assert page.status_code == 200


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx", "", "é"]
)
def test_signing_in_leads_nowhere_else(served: Served, back: str) -> None:
    answer = httpx.post(served.url + "/cockpit/signin", data={"token": ADMIN, "back": back})

    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_admin_token_opens_it_and_its_cookie_signs_the_forms(furnished: Served) -> None:
    with httpx.Client(base_url=furnished.url, follow_redirects=True, timeout=30) as client:
        page = client.get("/tasks/act/retry?status=failed", headers=FOR_ADMIN)
        fields = {
            each["name"]: each["value"]
            for each in Elements(page.text).named("input")
            if each.get("type") == "hidden" and "value" in each
        }
        done = client.post("/tasks/act/retry", data=fields | {"reason": "fixed", "sure": "yes"})

    assert "Tried again: 4 tasks" in shown(done)


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/999",
        "/tasks/a",
        "/tasks/-1",
        "/tasks/" + "9" * 40,
        "/tasks/act/destroy",
        "/articles/nothing",
        "/articles/%00",
        "/procedures/none",
        "/models?count=none",
        "/procedures?plan=none",
    ],
)
def test_what_there_is_not_is_a_page_that_says_so(browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)

    assert answer.status_code == 404
    assert "There is no such thing" in shown(answer, 404)
    assert answer.headers["content-type"].startswith("text/html")
    assert 'href="/tasks"' in answer.text


# Texts of others -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(served: Served, psql: Rows) -> Served:
    """Every text that others can write has markup, a template and a mark of direction in it."""
    psql(
        "INSERT INTO articles (id, title, content, tenant_id, slug, metadata) VALUES (%s, %s, %s, %s, %s, jsonb_build_object('k', %s::text))",
        *[HOSTILE] * 6,
    )
    psql("UPDATE article_texts SET title = title || '2'")
    error = (
        "jsonb_build_array(jsonb_build_object('at', %s::text, 'attempt', 1, 'class', %s::text, 'message', %s::text,"
        " 'worker', %s::text, 'delivery', 'x'))"
    )
    psql(
        "UPDATE embedding_tasks SET status = 'failed', error_class = %s, error_message = %s, delivery = %s, completed_at = now(),"
        f" metadata = jsonb_build_object('reason', %s::text, 'traceparent', %s::text), errors = {error}",
        *[HOSTILE] * 9,
    )
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, queues, counters, alive_until)"
        " VALUES (%s, %s, %s, 1, ARRAY[%s], jsonb_build_object(%s::text, %s::text), now() + interval '1 hour')",
        *[HOSTILE] * 6,
    )
    psql("UPDATE embedding_worker_status SET reason = %s", HOSTILE)
    psql(
        "INSERT INTO embedding_audit_logs (category, message, metadata) VALUES (%s, %s, jsonb_build_object('who', %s::text, 'reason', %s::text))",
        *[HOSTILE] * 4,
    )
    psql(
        "INSERT INTO embedding_audit_logs (category, message, metadata) VALUES ('procedure', %s, jsonb_build_object('run', %s::text, 'kind', %s::text,"
        " 'step', NULL, 'state', 'begun', 'who', %s::text, 'reason', %s::text))",
        *[HOSTILE] * 5,
    )
    psql(
        "INSERT INTO performance_metrics (metric, labels, value) SELECT m, jsonb_build_object('status', %s::text, 'priority', %s::text), 5"
        " FROM unnest(ARRAY['depth', 'settled']) m",
        *[HOSTILE] * 2,
    )
    return served


IN_ADDRESS = quote(HOSTILE, safe="")
IN_PATH = quote(HOSTILE.replace("/", ""), safe="")
WITH_HOSTILE = (
    *PAGES,
    "/",
    "/tasks/1",
    f"/articles/{IN_ADDRESS}",
    f"/errors?error={IN_ADDRESS}",
    f"/procedures/{IN_ADDRESS}",
    f"/tasks?tenant={IN_ADDRESS}&text={IN_ADDRESS}&error={IN_ADDRESS}&source={IN_ADDRESS}&article={IN_ADDRESS}",
    f"/tasks?status={IN_ADDRESS}",
    f"/tasks?newer={IN_ADDRESS}",
    f"/tasks/{IN_PATH}",
    f"/tasks/act/{IN_PATH}",
    f"/tasks/act/retry?error={IN_ADDRESS}",
    f"/audit?who={IN_ADDRESS}&text={IN_ADDRESS}&category={IN_ADDRESS}",
    f"/audit?level={IN_ADDRESS}",
    f"/models?count={IN_ADDRESS}",
    f"/procedures?plan={IN_ADDRESS}",
    f"/queues?window={IN_ADDRESS}",
    f"/articles/{IN_ADDRESS}x",
)


@pytest.mark.parametrize("page", WITH_HOSTILE)
def test_texts_of_others_are_only_texts(hostile: Served, browser: httpx.Client, page: str) -> None:
    answer = browser.get(page)
    elements = Elements(answer.text)

    assert answer.status_code in (200, 404, 422), answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert elements.named("img", "iframe", "object") == []
    assert [each for each in elements.named("script") if not (each.get("src") or "").startswith("/cockpit/assets/")] == []
    assert [each for _, each in elements.found if any(name.startswith("on") for name in each)] == []
    assert "49" not in re.findall(r"\u202e(\d+)", answer.text)
    in_values = "".join(each.get("value") or "" for each in elements.named("input"))
    assert answer.text.count("\u202e") == in_values.count("\u202e")


def test_a_hostile_class_of_error_is_retried_as_it_is(hostile: Served, browser: httpx.Client, psql: Rows) -> None:
    page = browser.get("/tasks/act/retry", params={"error": HOSTILE})
    fields = {
        each["name"]: each["value"]
        for each in Elements(page.text).named("input")
        if each.get("type") == "hidden" and "value" in each
    }

    done = browser.post("/tasks/act/retry", data=fields | {"reason": HOSTILE, "sure": "yes"})

    assert "Tried again: 1 tasks" in shown(done)
    assert psql("SELECT status FROM embedding_tasks") == [("pending",)]
