"""POST /api/search: everything that the Python client's search can, over HTTP, on vectors of real workers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedq import Client
from embedq.local.servers import Servers
from embedq.settings import from_env
from tests.acceptance.service import Served, hashing_at, problem, serving
from tests.conftest import fresh_database
from tests.support import start_poller, until

ARTICLES = [
    {
        "id": "tea",
        "title": "Tea",
        "content": "steep the leaves in hot water",
        "metadata": {"kind": "drink", "year": 2024, "ok": True},
    },
    {
        "id": "cocoa",
        "title": "Cocoa",
        "content": "stir the powder into hot milk",
        "metadata": {"kind": "drink", "year": 2023, "weight": 1e-07},
    },
    {"id": "soup", "title": "Soup", "content": "leaves and roots in hot water", "metadata": {"kind": "food", "year": 2024}},
    {
        "id": "part",
        "title": "Spare part XK-4711",
        "content": "a valve for kettles of the second series",
        "metadata": {"kind": "part"},
    },
    {"id": "train", "title": "Trains", "content": "they leave from platform nine", "metadata": {}},
]
METADATA = {one["id"]: one["metadata"] for one in ARTICLES}


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def its(servers: Servers, database_url: str) -> dict[str, str]:
    return hashing_at(database_url, servers.redis_url) | {"EMBEDDING_MODE": "database"}


@pytest.fixture(scope="module")
def served(its: dict[str, str]) -> Iterator[Served]:
    """With the articles above, embedded; another tenant has one of its own."""
    with serving(its) as running:
        running.admin.post("/admin/mode", json={"mode": "database", "reason": "test"})
        running.articles.post("/api/articles/batch", json={"articles": ARTICLES}).raise_for_status()
        running.articles.post(
            "/api/articles", json={"id": "other", "title": "Tea", "content": "hot water", "tenant_id": "acme"}
        ).raise_for_status()
        with start_poller(its):
            for key, tenant in [*((one["id"], "default") for one in ARTICLES), ("other", "acme")]:
                until(lambda key=key, tenant=tenant: is_ready(running, str(key), tenant))  # type: ignore[misc]
        yield running


def is_ready(served: Served, key: str, tenant: str) -> bool:
    status: str = served.articles.get(f"/api/articles/{key}", params={"tenant_id": tenant}).json()["embedding_status"]
    return status == "ready"


def search(served: Served, query: str, **wishes: Any) -> list[dict[str, Any]]:
    answer = served.articles.post("/api/search", json={"query": query} | wishes)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [hit["article_id"] for hit in found]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({"kind": "drink"}, {"tea", "cocoa"}, id="a string"),
        pytest.param({"kind": "drink", "year": 2024}, {"tea"}, id="two values, both needed"),
        pytest.param({"year": 2024}, {"tea", "soup"}, id="a number"),
        pytest.param({"weight": 1e-07}, {"cocoa"}, id="a small fraction"),
        pytest.param({"ok": True}, {"tea"}, id="true"),
        pytest.param({"kind": ["drink", "nothing"], "year": {"$gte": 2024}}, {"tea"}, id="any of a list, and a range"),
        pytest.param({"kind": "nothing of the kind"}, set(), id="a value that nobody has"),
        pytest.param({"absent": "x"}, set(), id="a key that nobody has"),
        pytest.param({}, {one["id"] for one in ARTICLES}, id="nothing"),
    ],
)
@pytest.mark.parametrize("hybrid", [False, True], ids=["by meaning", "hybrid"])
def test_a_filter_leaves_the_articles_whose_metadata_has_all_of_it(
    served: Served, wanted: dict[str, Any], found: set[str], hybrid: bool
) -> None:
    hits = search(served, "hot water", filter=wanted, hybrid=hybrid)

    assert set(ids(hits)) == found
    assert all(hit["metadata"] == METADATA[hit["article_id"]] and hit["updated_at"] for hit in hits)


def test_min_score_leaves_out_what_is_further_off_and_nothing_else(served: Served) -> None:
    everything = search(served, "leaves in hot water")
    scores = [hit["score"] for hit in everything]
    bound = scores[1]

    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 2
    assert search(served, "leaves in hot water", min_score=bound) == everything[: 1 + scores.count(bound)]
    assert (
        search(served, "leaves in hot water", min_score=-1)
        == everything
        == search(served, "leaves in hot water", min_score=None)
    )
    assert search(served, "leaves in hot water", min_score=1) == []


def test_hybrid_finds_the_rare_word_and_the_score_stays_the_cosine(served: Served) -> None:
    query = "they leave from the platform with XK-4711"
    by_meaning, by_both = search(served, query), search(served, query, hybrid=True)

    assert (by_meaning[0]["article_id"], by_both[0]["article_id"]) == ("train", "part")
    cosines = {hit["article_id"]: hit["score"] for hit in by_meaning}
    assert {hit["article_id"]: pytest.approx(hit["score"], abs=1e-6) for hit in by_both} == cosines
    least = min(cosines["part"], 1.0)
    assert all(hit["score"] >= least for hit in search(served, query, hybrid=True, min_score=least))


@pytest.mark.parametrize(
    "wishes",
    [
        dict(chosen)
        for number in range(4)
        for chosen in itertools.combinations([("min_score", 0.05), ("filter", {"year": 2024}), ("hybrid", True)], number)
    ],
    ids=lambda wishes: ", ".join(wishes) or "nothing",
)
def test_the_service_finds_what_the_python_client_finds(served: Served, its: dict[str, str], wishes: dict[str, Any]) -> None:
    with Client(from_env(its)) as client:
        expected = client.search("leaves in hot water", 3, tenant_id="default", **wishes)

    found = search(served, "leaves in hot water", k=3, **wishes)

    assert [(hit["article_id"], hit["score"]) for hit in found] == [(hit.article_id, hit.score) for hit in expected]


def test_no_wish_opens_another_tenants_articles(served: Served) -> None:
    mine = [search(served, "hot water", hybrid=hybrid, min_score=-1) for hybrid in (False, True)]

    assert not any("other" in ids(found) for found in mine)
    assert ids(search(served, "hot water", tenant_id="acme", hybrid=True)) == ["other"]


@pytest.mark.parametrize(
    ("wishes", "field"),
    [
        pytest.param({"min_score": 1.01}, "min_score", id="a score that there is not"),
        pytest.param({"min_score": "much"}, "min_score", id="a score in words"),
        pytest.param({"filter": ["kind"]}, "filter", id="a list as filter"),
        pytest.param({"filter": {"kind": None}}, "filter.kind", id="null as a value"),
        pytest.param({"filter": {"kind": []}}, "filter.kind", id="an empty list as a value"),
        pytest.param({"filter": {"ki\0nd": "x"}}, "filter", id="a NUL in a key"),
        pytest.param({"filter": {str(number): 1 for number in range(21)}}, "filter", id="many keys"),
        pytest.param({"filter": {"a": "x" * 1001}}, "filter.a", id="a long value"),
        pytest.param({"hybrid": "perhaps"}, "hybrid", id="neither true nor false"),
        pytest.param({"k": True}, "k", id="true as a number"),
        pytest.param({"minscore": 0.1}, "minscore", id="a misspelt wish"),
        pytest.param({"query": "  ", "hybrid": True}, "query", id="a blank query"),
    ],
)
def test_a_wrong_wish_is_told_with_its_field_and_a_next_step(served: Served, wishes: dict[str, Any], field: str) -> None:
    answer = served.articles.post("/api/search", json={"query": "tea"} | wishes)

    assert answer.status_code == 422, answer.text
    assert problem(answer)["field"] == field


@pytest.mark.parametrize(
    "raw",
    [
        '"min_score": NaN',
        '"min_score": 1e999',
        '"filter": {"a": NaN}',
        '"filter": {"a": ' + "9" * 4000 + "}",
        '"filter": {"\\ud800": 1}',
    ],
    ids=lambda raw: raw[:30],
)
def test_json_that_is_no_number_and_no_text_is_refused(served: Served, raw: str) -> None:
    body = f'{{"query": "tea", {raw}}}'

    answer = served.articles.post("/api/search", content=body.encode(), headers={"Content-Type": "application/json"})

    assert answer.status_code == 422, answer.text
    assert problem(answer)


def test_every_example_of_the_document_is_answered(served: Served) -> None:
    document = served.stranger.get("/openapi.json").json()
    examples = document["components"]["schemas"]["Search"]["examples"]

    answers: list[httpx.Response] = [served.articles.post("/api/search", json=example) for example in examples]

    assert [answer.status_code for answer in answers] == [200] * len(examples)
    assert all(wish in json.dumps(examples) for wish in ("min_score", "filter", "hybrid"))


def test_several_queries_are_answered_each_for_itself(served: Served) -> None:
    answer = served.articles.post("/api/search", json={"query": ["hot milk", "platform nine"], "k": 1}).json()

    assert answer["results"] == []
    assert [(one["query"], ids(one["results"])) for one in answer["answers"]] == [
        ("hot milk", ["cocoa"]),
        ("platform nine", ["train"]),
    ]


def test_pages_fit_together_and_end(served: Served) -> None:
    whole = ids(search(served, "hot water", k=5, offset=0))

    assert [ids(search(served, "hot water", k=2, offset=offset)) for offset in (0, 2, 4, 6)] == [
        whole[:2],
        whole[2:4],
        whole[4:],
        [],
    ]
    refused = served.articles.post("/api/search", json={"query": "tea", "k": 150, "offset": 100})
    assert (refused.status_code, problem(refused)["field"]) == (422, "offset")


def test_what_is_near_an_article_is_found_without_a_query(served: Served) -> None:
    answer = served.articles.get("/api/articles/tea/similar", params={"k": 2, "fold": True, "diversity": 0.1})
    other = served.articles.get("/api/articles/other/similar", params={"tenant_id": "acme"})

    assert (ids(answer.json()["results"])[0], answer.status_code) == ("soup", 200)
    assert other.json()["results"] == []
    assert served.articles.get("/api/articles/other/similar").status_code == 404
    assert served.articles.get("/api/articles/tea/similar", params={"diversity": 2}).status_code == 422


def test_a_reranker_that_no_package_registers_is_refused_by_its_field(served: Served) -> None:
    refused = served.articles.post("/api/search", json={"query": "tea", "rerank": "nobody"})

    assert (refused.status_code, problem(refused)["field"]) == (422, "rerank")


def test_a_reranker_that_fails_is_named_as_the_reason(its: dict[str, str], served: Served, tmp_path: Path) -> None:
    installed = tmp_path / "failing-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[embedq.rerankers]\nfailing = nothing_here:Reranker\n")

    with serving(its | {"PYTHONPATH": str(tmp_path)}) as running:
        failed = running.articles.post("/api/search", json={"query": "tea", "rerank": "failing"})
        without = running.articles.post("/api/search", json={"query": "tea"})

    assert (failed.status_code, without.status_code) == (503, 200)
    assert (problem(failed)["type"], problem(failed)["title"]) == ("urn:embedq:reranker-failed", "The reranker failed")
    assert "search without it" in problem(failed)["next_step"]
