"""What a filter finds: each way of asking, by meaning and by words, with the filter's own articles and no others."""

from __future__ import annotations

import pytest

from embedq.client.sync import embed_now

METADATA = {
    "red": {
        "colour": "red",
        "size": 1,
        "tags": ["a", "b"],
        "on": "2024-03-01",
        "maker": {"name": "Ann", "city": "Ulm"},
        "ok": True,
    },
    "blue": {"colour": "blue", "size": 2.5, "tags": ["b"], "on": "2024-06-30", "maker": {"name": "Bob"}, "ok": False},
    "green": {"colour": "green", "size": 30, "tags": [], "on": "2025-01-01", 'odd "key" \\': "é"},
    "bare": {},
}
COLOURED = {"red", "blue", "green"}


@pytest.fixture
def library(client, store, psql):
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    ids = [
        client.create(f"A {key} thing", "Paint for walls", id=key, metadata=metadata).id for key, metadata in METADATA.items()
    ]
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    psql("UPDATE article_texts SET created_at = '2020-05-17 12:00:00+00' WHERE id = 'red'")
    embed_now(store, client.provider, ids)
    return client


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({"colour": "red"}, {"red"}, id="equal"),
        pytest.param({"size": "1"}, {"red"}, id="a number as a command line gives it"),
        pytest.param({"colour": ["red", "blue"]}, {"red", "blue"}, id="a list"),
        pytest.param({"colour": {"$in": ["red", "pink"]}}, {"red"}, id="in"),
        pytest.param({"colour": {"$nin": ["red", "pink"]}}, {"blue", "green", "bare"}, id="not in"),
        pytest.param({"colour": {"$ne": "red"}}, {"blue", "green", "bare"}, id="not equal"),
        pytest.param({"size": {"$eq": 2.5}}, {"blue"}, id="equal, as a comparison"),
        pytest.param({"size": {"$gt": 1, "$lte": 30}}, {"blue", "green"}, id="a range, by number and not by text"),
        pytest.param({"size": {"$gte": 30}}, {"green"}, id="at least"),
        pytest.param({"size": {"$lt": 2}}, {"red"}, id="below"),
        pytest.param({"on": {"$gte": "2024-03-01", "$lt": "2025-01-01"}}, {"red", "blue"}, id="dates"),
        pytest.param({"@created_at": {"$lt": "2021-01-01"}}, {"red"}, id="when the article was made"),
        pytest.param({"@id": ["bare", "red"]}, {"bare", "red"}, id="the article's own id"),
        pytest.param({"maker": {"$exists": True}}, {"red", "blue"}, id="there"),
        pytest.param({"maker": {"$exists": False}}, {"green", "bare"}, id="not there"),
        pytest.param({"maker": {"name": "Ann"}}, {"red"}, id="nested"),
        pytest.param({"maker": {"name": ["Ann", "Bob"], "city": {"$exists": True}}}, {"red"}, id="nested, with comparisons"),
        pytest.param({"tags": ["b"]}, {"red", "blue"}, id="a value of a list"),
        pytest.param({"tags": {"$ne": "b"}}, {"green", "bare"}, id="no value of a list"),
        pytest.param({"ok": [False]}, {"blue"}, id="false"),
        pytest.param({"$or": [{"colour": "red"}, {"size": {"$gt": 10}}]}, {"red", "green"}, id="either"),
        pytest.param({"$and": [{"tags": ["b"]}, {"ok": [True]}]}, {"red"}, id="both"),
        pytest.param({"$not": {"colour": ["red", "blue"]}}, {"green", "bare"}, id="not"),
        pytest.param({"$not": {"$or": [{"colour": "red"}, {"maker": {"$exists": False}}]}}, {"blue"}, id="not either"),
        pytest.param({"colour": "blue", "size": {"$gt": 1}}, {"blue"}, id="a plain value and a comparison"),
        pytest.param({'odd "key" \\': ["é"]}, {"green"}, id="an odd key"),
        pytest.param({"colour": ['" || true || "']}, set(), id="what looks like a path"),
        pytest.param({"size": {"$gt": "text"}}, set(), id="another type"),
        pytest.param({}, set(METADATA), id="nothing asked"),
    ],
)
def test_a_filter_leaves_its_articles_and_no_others(library, wanted, found):
    assert {hit.article_id for hit in library.search("paint", 10, filter=wanted)} == found
    assert {hit.article_id for hit in library.search("paint", 10, filter=wanted, hybrid=True)} == found
