"""What the console's forms do over real HTTP, who may, and that the command beside each does the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from html import unescape
from re import findall
from typing import Any

import httpx
import pytest

from embedq.local.servers import Servers
from tests.acceptance.operating import answered
from tests.acceptance.service import ADMIN, Served, empty, hashing_at, serving
from tests.acceptance.test_console import Elements, articles, fail, listed, shown
from tests.conftest import fresh_database
from tests.support import run_command, start_poller, until

Rows = Callable[..., list[tuple[Any, ...]]]


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
    return lasting


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, follow_redirects=True, timeout=60) as client:
        client.post("/cockpit/signin", data={"token": ADMIN})
        yield client


def fields_of(page: httpx.Response, action: str) -> dict[str, str]:
    """The hidden fields of the form with this action."""
    inside = page.text.partition(f'action="{action}"')[2].partition("</form>")[0]
    return {each["name"] or "": each["value"] or "" for each in Elements(inside).named("input") if each.get("type") == "hidden"}


def submitted(browser: httpx.Client, page: str, action: str, **more: str) -> str:
    """The form of this page with a reason and a tick; the text of the page that it leads to."""
    fields = fields_of(browser.get(page), action)
    assert fields, f"{page} has no form {action}"
    return shown(browser.post(action, data=fields | {"reason": "the cause is gone", "sure": "yes"} | more))


def statuses(psql: Rows) -> dict[str, int]:
    return dict(psql("SELECT status, count(*) FROM embedding_tasks GROUP BY 1"))  # type: ignore[arg-type]


def mixed(psql: Rows) -> None:
    """Thirty tasks: ten failed of two classes, five skipped, the others wait, two of them high."""
    articles(psql, 30)
    fail(psql, "id <= 8")
    fail(psql, "id IN (9, 10)", "ProviderBusy", "503 again and again")
    psql("UPDATE embedding_tasks SET status = 'skipped', completed_at = now() WHERE id BETWEEN 11 AND 15")
    psql("UPDATE embedding_tasks SET priority = 'high', tenant_id = 'it''s \"acme\"' WHERE id IN (1, 2, 20, 21)")
    psql(
        "UPDATE embedding_tasks SET metadata = '{\"reason\": \"import\"}', created_at = now() - interval '3 days' WHERE id IN (2, 3, 21, 22)"
    )


@pytest.mark.parametrize(
    ("act", "query", "number", "after"),
    [
        ("retry", {"status": "failed"}, 10, {"pending": 25, "skipped": 5}),
        ("retry", {"error": "ProviderBusy"}, 2, {"failed": 8, "pending": 17, "skipped": 5}),
        ("retry", {"text": "again%again"}, 2, {"failed": 8, "pending": 17, "skipped": 5}),
        ("retry", {"status": "skipped"}, 5, {"failed": 10, "pending": 20}),
        ("retry", {"tenant": 'it\'s "acme"', "source": "import"}, 1, {"failed": 9, "pending": 16, "skipped": 5}),
        ("retry", {"task": "11"}, 1, {"failed": 10, "pending": 16, "skipped": 4}),
        ("cancel", {}, 15, {"failed": 10, "cancelled": 15, "skipped": 5}),
        ("cancel", {"priority": "high"}, 2, {"failed": 10, "cancelled": 2, "pending": 13, "skipped": 5}),
        ("cancel", {"status": "pending", "older": "1d"}, 2, {"failed": 10, "cancelled": 2, "pending": 13, "skipped": 5}),
        ("discard", {"status": "failed"}, 10, {"cancelled": 10, "pending": 15, "skipped": 5}),
        ("discard", {"newer": "1d", "error": "InputRefused"}, 6, {"cancelled": 6, "failed": 4, "pending": 15, "skipped": 5}),
        ("discard", {"article": "a1"}, 1, {"cancelled": 1, "failed": 9, "pending": 15, "skipped": 5}),
        ("discard", {"task": "3"}, 1, {"cancelled": 1, "failed": 9, "pending": 15, "skipped": 5}),
    ],
)
def test_an_act_is_done_to_all_that_match_and_the_command_means_the_same(
    world: dict[str, str],
    browser: httpx.Client,
    psql: Rows,
    act: str,
    query: dict[str, str],
    number: int,
    after: dict[str, int],
) -> None:
    mixed(psql)
    page = browser.get(f"/tasks/act/{act}", params=query)
    (command,) = findall(r"The same on a command line: <code>(.*?)</code>", page.text)

    planned = answered(world, *shlex.split(unescape(command).replace("…", "why"))[1:], "--dry-run")
    said = submitted(browser, str(page.url), f"/tasks/act/{act}")

    assert f"{number} task" in shown(page)
    assert planned["tasks"] == number
    assert f": {number} tasks (" in said
    assert statuses(psql) == after
    ((who, reason),) = psql("SELECT metadata->>'who', metadata->>'reason' FROM embedding_audit_logs WHERE category = %s", act)
    assert who.startswith("admin@127.0.0.1")
    assert reason == "the cause is gone"


@pytest.mark.parametrize(
    ("act", "status"), [("retry", "pending"), ("retry", "completed"), ("cancel", "failed"), ("discard", "pending")]
)
def test_an_act_is_refused_for_a_status_that_it_cannot_be_done_to(browser: httpx.Client, act: str, status: str) -> None:
    assert f"{status} tasks cannot be" in shown(browser.get(f"/tasks/act/{act}?status={status}"), 422)


@pytest.mark.parametrize(("change", "told"), [({"reason": " "}, "needs its reason"), ({"sure": ""}, "was not confirmed")])
def test_nothing_is_done_without_a_reason_and_a_tick(
    browser: httpx.Client, psql: Rows, change: dict[str, str], told: str
) -> None:
    mixed(psql)

    said = submitted(browser, "/tasks/act/discard?status=failed", "/tasks/act/discard", **change)

    assert told in said
    assert statuses(psql)["failed"] == 10


POSTS = ("/tasks/act/retry", "/console/do/reindex", "/console/do/pause", "/console/do/procedure")


@pytest.mark.parametrize("path", POSTS)
def test_a_form_needs_the_session_and_its_own_pages_token(served: Served, browser: httpx.Client, psql: Rows, path: str) -> None:
    mixed(psql)
    order = {"reason": "mischief", "sure": "yes", "key": "emergency"}
    token = fields_of(browser.get("/tasks/act/retry?status=failed"), "/tasks/act/retry")["form"]

    strange = httpx.post(served.url + path, data=order | {"form": token})
    with_admin_token = httpx.post(served.url + path, data=order | {"form": token}, headers={"Authorization": f"Bearer {ADMIN}"})
    forged = browser.post(path, data=order | {"form": "0" * 64})
    elsewhere = browser.post(path, data=order | {"form": token}, headers={"Origin": "https://evil.example"})
    no_form = browser.post(path, json=order)

    assert (strange.status_code, with_admin_token.status_code) == (303, 303)
    assert (forged.status_code, elsewhere.status_code, no_form.status_code) == (403, 403, 415)
    assert statuses(psql)["failed"] == 10
    assert psql("SELECT mode, paused_priorities FROM embedding_worker_status") == [("celery", [])]


def test_a_session_that_may_only_look_sees_the_pages_and_cannot_act(world: dict[str, str], served: Served, psql: Rows) -> None:
    mixed(psql)
    made = run_command(world, "token", "create", "--name", "looks-only", "--scope", "read", "--reason", "x", "--yes", "--json")
    with httpx.Client(base_url=served.url, follow_redirects=True, timeout=30) as reader:
        reader.post("/cockpit/signin", data={"token": json.loads(made.stdout)["token"]})
        page = reader.get("/tasks/act/retry?status=failed")
        form = fields_of(page, "/cockpit/signout")["form"]
        front = reader.get("/")
        refused = [reader.post(path, data={"form": form, "reason": "x", "sure": "y"}) for path in (*POSTS, "/cockpit/stop")]
        read_only = [
            reader.get(path)
            for path in ("/tasks", "/tasks/1", "/articles/a1", "/queues", "/errors?error=InputRefused", "/models")
        ]

    assert "/cockpit/mode" not in front.text
    assert "/cockpit/retry" not in front.text
    assert "read only" in page.text
    assert 'action="/tasks/act' not in page.text
    assert [answer.status_code for answer in refused] == [403] * 5
    assert [(answer.status_code, "/console/do/" in answer.text) for answer in read_only] == [(200, False)] * 6
    assert "embedq retry" in page.text
    assert statuses(psql)["failed"] == 10


def test_words_of_an_act_that_somebody_else_put_into_the_address_are_not_shown(browser: httpx.Client) -> None:
    assert "0900" not in browser.get("/tasks", params={"said": "Call 0900-EVIL", "seal": "0" * 64}).text


# The other pages' acts -----------------------------------------------------------------------------------------------------------


def test_a_queue_is_paused_and_resumed(browser: httpx.Client, psql: Rows) -> None:
    paused = submitted(browser, "/queues", "/console/do/pause", key="low")
    then = psql("SELECT paused_priorities FROM embedding_worker_status")
    resumed = submitted(browser, "/queues", "/console/do/resume")

    assert "Paused now: low." in paused
    assert then == [(["low"],)]
    assert "Paused now: nothing." in resumed


def test_an_article_is_embedded_anew_and_an_earlier_text_restored(
    world: dict[str, str], browser: httpx.Client, psql: Rows
) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title, content) VALUES ('tea', 'Tea', 'first')")
    with start_poller(world):
        until(lambda: statuses(psql) == {"completed": 1})
        psql("UPDATE articles SET content = 'second' WHERE id = 'tea'")
        until(lambda: statuses(psql) == {"completed": 2})

        anew = submitted(browser, "/articles/tea", "/console/do/reindex")
        until(lambda: statuses(psql) == {"completed": 3})
        back = submitted(browser, "/articles/tea", "/console/do/restore")
        until(lambda: statuses(psql) == {"completed": 4})

    assert "is embedded anew" in anew
    assert "version 1 is back, as version 3" in back
    assert psql("SELECT content, version, embedding_status FROM articles") == [("first", 3, "ready")]
    assert psql("SELECT count(*) FROM embedding_audit_logs WHERE category IN ('reindex', 'restore')") == [(2,)]


def test_a_class_of_errors_is_retried_with_a_canary(world: dict[str, str], browser: httpx.Client, psql: Rows) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    articles(psql, 6)
    fail(psql)

    with start_poller(world):
        said = submitted(browser, "/errors?error=InputRefused", "/console/do/canary")
        until(lambda: statuses(psql) == {"completed": 6})

    assert "was embedded; 5 others are tried again" in said


def test_without_a_worker_the_canary_leaves_the_others_alone(browser: httpx.Client, psql: Rows) -> None:
    articles(psql, 3)
    fail(psql)

    said = submitted(browser, "/errors?error=InputRefused", "/console/do/canary")

    assert "the others were left alone" in said
    assert statuses(psql) == {"failed": 2, "pending": 1}


def test_search_follows_another_model_and_the_one_before_again(browser: httpx.Client, psql: Rows) -> None:
    psql("SELECT embedq_add_model('hashing', 'hashing-v2', 64)")

    there = submitted(browser, "/models", "/console/do/activate")
    back = submitted(browser, "/models", "/console/do/model-back")

    assert "Search follows hashing/hashing-v2/64 now" in there
    assert "Search follows hashing/hashing-v1/64 again" in back
    psql("UPDATE embedding_active_model SET previous_model_id = NULL")


def test_an_emergency_is_planned_started_and_undone(browser: httpx.Client, psql: Rows) -> None:
    articles(psql, 3)

    plan = shown(browser.get("/procedures?plan=emergency"))
    untouched = psql("SELECT mode FROM embedding_worker_status")
    said = submitted(browser, "/procedures?plan=emergency", "/console/do/procedure")
    switched = psql("SELECT mode FROM embedding_worker_status")
    runs = browser.get("/procedures")
    (run,) = set(findall(r'href="/procedures/([0-9a-f]{8})"', runs.text))
    report = shown(browser.get(f"/procedures/{run}"))
    undone = submitted(browser, "/procedures?plan=undo", "/console/do/procedure")

    assert "Nothing was done" in plan
    assert untouched == [("celery",)]
    assert "emergency: celery → database in" in said
    assert switched == [("database",)]
    assert "ended well" in report
    assert "the cause is gone" in report
    assert "undo: database → celery" in undone


@pytest.mark.parametrize("kind", ["planned", "partial"])
def test_a_long_procedure_is_planned_on_the_page_and_started_by_its_command(browser: httpx.Client, kind: str) -> None:
    page = browser.get(f"/procedures?plan={kind}")

    assert f"embedq rollback {kind} --reason" in unescape(page.text)
    assert "/console/do/procedure" not in page.text


# Colours -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_colours_are_chosen_for_every_page(browser: httpx.Client, theme: str) -> None:
    chosen = browser.post("/console/theme", data={"theme": theme, "back": "/queues"})

    assert chosen.url.path == "/queues"
    for page in ("/queues", "/", "/tasks/999"):
        assert Elements(browser.get(page).text).named("html")[0]["data-theme"] == theme
    browser.post("/console/theme", data={"theme": "", "back": "/queues"})
    assert "data-theme" not in Elements(browser.get("/queues").text).named("html")[0]


def test_choosing_colours_leads_nowhere_else(browser: httpx.Client) -> None:
    answer = browser.post("/console/theme", data={"theme": "dark", "back": "//evil.example"}, follow_redirects=False)

    assert answer.headers["location"] == "/"


def test_a_bulk_act_shows_its_list_again(browser: httpx.Client, psql: Rows) -> None:
    mixed(psql)
    fields = fields_of(browser.get("/tasks/act/retry?status=skipped"), "/tasks/act/retry")

    answer = browser.post("/tasks/act/retry", data=fields | {"reason": "x", "sure": "yes"})

    assert answer.url.params["status"] == "skipped"
    assert listed(answer) == []
