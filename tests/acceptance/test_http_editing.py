"""ETag, If-Match, If-None-Match: no edit is lost, however many come at once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from embedq.local.servers import Servers
from tests.acceptance.service import FOR_ARTICLES, Served, empty, hashing_at, problem, serving
from tests.conftest import fresh_database
from tests.support import start_poller, until

AT_ONCE = 10
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


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


def write(served: Served, **more: Any) -> httpx.Response:
    return served.articles.post("/api/articles", json={"title": "Tea", "content": "one", "slug": "tea", "id": "t"} | more)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"title": "Green tea"}, id="title"),
        pytest.param({"content": "two"}, id="content"),
        pytest.param({"slug": "green-tea"}, id="slug"),
        pytest.param({"metadata": {"topic": "drinks"}}, id="metadata alone"),
    ],
)
def test_every_edit_changes_the_etag_and_an_edit_with_the_one_before_is_refused(
    served: Served, changes: dict[str, Any]
) -> None:
    before = write(served).headers["etag"]

    edited = served.articles.put("/api/articles/t", json=changes, headers={"If-Match": before})
    late = served.articles.put("/api/articles/t", json={"metadata": {"mine": True}}, headers={"If-Match": before})
    late_delete = served.articles.delete("/api/articles/t", headers={"If-Match": before})
    now = served.articles.get("/api/articles/t")

    assert edited.status_code == 200
    assert edited.headers["etag"] == now.headers["etag"] != before
    assert (late.status_code, late_delete.status_code) == (412, 412)
    assert late.headers["etag"] == now.headers["etag"]
    assert (problem(late)["field"], problem(late_delete)["field"]) == ("If-Match", "If-Match")
    assert changes.items() <= now.json().items()


def test_every_answer_of_an_article_has_the_same_etag_until_it_is_edited_whatever_its_embedding_does(
    served: Served, environment: dict[str, str]
) -> None:
    served.admin.post("/admin/mode", json={"mode": "database", "reason": "test"})
    made = write(served)
    with start_poller(environment):
        until(lambda: served.articles.get("/api/articles/t").json()["embedding_status"] == "ready")

    read = served.articles.get("/api/articles/tea")
    deleted = served.articles.delete("/api/articles/tea", headers={"If-Match": made.headers["etag"]})

    assert read.headers["etag"] == made.headers["etag"]
    assert deleted.status_code == 204


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param("{etag}", 200, id="the tag"),
        pytest.param('"1-0", {etag}', 200, id="one of a list"),
        pytest.param("*", 200, id="any"),
        pytest.param("W/{etag}", 412, id="a weak tag never matches"),
        pytest.param('"1"', 412, id="another tag"),
        pytest.param("what?", 412, id="no tag at all"),
    ],
)
def test_what_if_match_may_say(served: Served, header: str, status: int) -> None:
    etag = write(served).headers["etag"]

    answer = served.articles.put("/api/articles/t", json={"title": "x"}, headers={"If-Match": header.format(etag=etag)})

    assert answer.status_code == status


def test_an_edit_that_wants_nothing_to_be_there_changes_nothing(served: Served) -> None:
    write(served)

    there = served.articles.put("/api/articles/t", json={"content": "mine"}, headers={"If-None-Match": "*"})
    nowhere = served.articles.put("/api/articles/x", json={"content": "mine"}, headers={"If-None-Match": "*"})

    assert (there.status_code, nowhere.status_code) == (412, 404)
    assert problem(there)["field"] == "If-None-Match"
    assert served.articles.get("/api/articles/t").json()["content"] == "one"


def test_a_precondition_on_an_article_that_is_gone_is_a_404(served: Served) -> None:
    etag = write(served).headers["etag"]
    served.articles.delete("/api/articles/t")

    late = [
        served.articles.put("/api/articles/t", json={"title": "x"}, headers={"If-Match": etag}),
        served.articles.delete("/api/articles/t", headers={"If-Match": etag}),
    ]

    assert [answer.status_code for answer in late] == [404, 404]


def metadata_edit(number: int) -> dict[str, Any]:
    return {"method": "PUT", "json": {"metadata": {"by": number}}}


def any_edit(number: int) -> dict[str, Any]:
    return {
        "method": "PUT",
        "json": ({"content": f"by {number}"}, {"metadata": {"by": number}}, {"slug": f"by-{number}"})[number % 3],
    }


def delete(_: int) -> dict[str, Any]:
    return {"method": "DELETE"}


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(metadata_edit, id="edits of metadata"),
        pytest.param(any_edit, id="edits"),
        pytest.param(delete, id="deletes"),
    ],
)
def test_of_many_writes_with_the_same_etag_that_all_have_read_it_before_any_wrote_one_wins(
    served: Served, database_url: str, psql: Callable[..., list[tuple[object, ...]]], wanted: Callable[[int], dict[str, Any]]
) -> None:
    """All of them stand at the row's lock, which we hold: whatever they looked at before, they have looked at it by then."""
    etag = write(served).headers["etag"]

    def ask(number: int) -> int:
        headers = FOR_ARTICLES | {"If-Match": etag}
        return httpx.request(url=f"{served.url}/api/articles/t", headers=headers, timeout=30, **wanted(number)).status_code

    with ThreadPoolExecutor(AT_ONCE) as pool, psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM article_texts WHERE id = 't' FOR UPDATE")
        answers = pool.map(ask, range(AT_ONCE))
        until(lambda: psql(WAITING) == [(AT_ONCE,)], why=lambda: psql(WAITING))
        holder.rollback()
        statuses = Counter(answers)

    # After a delete the others find nothing (404), or are told that it is not as it was (412).
    won = statuses.pop(200, 0) + statuses.pop(204, 0)
    assert won == 1
    assert set(statuses) <= {412, 404}


def test_a_delete_with_the_etag_of_before_an_edit_that_it_had_to_wait_for_deletes_nothing(
    served: Served, database_url: str, psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    headers = FOR_ARTICLES | {"If-Match": write(served).headers["etag"]}
    address = f"{served.url}/api/articles/t"

    with ThreadPoolExecutor(2) as pool, psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM article_texts WHERE id = 't' FOR UPDATE")
        edit = pool.submit(httpx.put, address, json={"metadata": {"kept": True}}, headers=headers, timeout=30)
        until(lambda: psql(WAITING) == [(1,)])
        late = pool.submit(httpx.delete, address, headers=headers, timeout=30)
        until(lambda: psql(WAITING) == [(2,)])
        holder.rollback()

    assert (edit.result().status_code, late.result().status_code) == (200, 412)
    assert served.articles.get("/api/articles/t").json()["metadata"] == {"kept": True}


def test_an_edits_answer_is_what_it_wrote_and_not_what_the_next_one_made_of_it(served: Served) -> None:
    write(served)

    def edit(writer: int) -> list[tuple[object, object]]:
        with httpx.Client(base_url=served.url, headers=FOR_ARTICLES, timeout=30) as client:
            wanted = [{"by": writer, "step": step} for step in range(25)]
            return [(one, client.put("/api/articles/t", json={"metadata": one}).json()["metadata"]) for one in wanted]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for found in pool.map(edit, range(8)) for answer in found]

    assert [(wrote, told) for wrote, told in answers if wrote != told] == []


def test_counting_by_read_and_conditional_edit_loses_no_step(served: Served) -> None:
    """The classic: everybody adds one to what they have read, and tries again when refused."""
    write(served, metadata={"count": 0})
    writers, steps = 6, 5
    refused = itertools.count()

    def add(_: int) -> None:
        with httpx.Client(base_url=served.url, headers=FOR_ARTICLES, timeout=30) as client:
            for _ in range(steps):
                while True:
                    read = client.get("/api/articles/t")
                    more = {"metadata": {"count": read.json()["metadata"]["count"] + 1}}
                    answer = client.put("/api/articles/t", json=more, headers={"If-Match": read.headers["etag"]})
                    if answer.status_code == 200:
                        break
                    assert answer.status_code == 412
                    next(refused)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(add, range(writers)))

    assert served.articles.get("/api/articles/t").json()["metadata"] == {"count": writers * steps}
    assert next(refused) > 0, "they never met"
