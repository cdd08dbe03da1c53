"""Ranking by words: in the article's language, identifiers as a whole and in parts, and what is rare before what is frequent."""

from __future__ import annotations

import pytest

from embedq.decide.ranking import Words, mixed
from embedq.store.index import build_words

FOUND = [
    pytest.param(
        "Das Haus", "Die Häuser in der Stadt sind alt und nicht schön", {}, "Haus", id="German plural, told by small words"
    ),
    pytest.param("Villa", "Haus am See", {"language": "de"}, "Häuser", id="German singular, named by a code"),
    pytest.param("Villa", "Haus am See", {"lang": "de-AT"}, "Häuser", id="a code with a region"),
    pytest.param("Paris", "a small café", {}, "cafe", id="without the accent"),
    pytest.param("Paris", "a small cafe", {}, "café", id="with an accent that is not there"),
    pytest.param("Чай", "Вода кипит в чайнике", {}, "чайник", id="Russian case"),
    pytest.param("Чай", "Купил чайник вчера", {}, "чайнике", id="Russian, the other way"),
    pytest.param("首都", "东京都是日本的首都和最大城市", {}, "日本", id="a word inside Chinese"),
    pytest.param("検索", "全文検索は難しいです", {}, "検索", id="a word inside Japanese"),
    pytest.param("검색", "서울특별시는 대한민국의 수도이다", {}, "대한민국", id="a word inside Korean"),
    pytest.param("heapq.nlargest", "Find the n largest elements", {}, "nlargest", id="the last part of a dotted name"),
    pytest.param("heapq.nlargest", "Find the n largest elements", {}, "heapq.nlargest", id="a dotted name"),
    pytest.param("Files", "see TimedRotatingFileHandler", {}, "rotating file", id="parts of a camelCase name"),
    pytest.param(
        "Files", "see TimedRotatingFileHandler", {}, "timedrotatingfilehandler", id="a camelCase name in small letters"
    ),
    pytest.param("difflib.get_close_matches", "Words like this one", {}, "get_close_matches", id="a name with underscores"),
    pytest.param("Parts", "the XMLHttpRequest object", {}, "http request", id="an abbreviation within a name"),
    pytest.param("Errors", "it raises ECONNREFUSED-4711", {}, "econnrefused-4711", id="a code with a hyphen"),
    pytest.param("Parts", "the valve XK-4711 of the pump", {}, "xk4711", id="a code without its hyphen"),
    pytest.param("Quotes", "it's a back\\slash 'quoted' word", {}, "back\\slash 'quoted'", id="what looks like syntax"),
]


@pytest.fixture
def articles(psql):
    """Saves articles without a task; other articles than the ones looked for are there."""
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    add(psql, "other", "Something else", "Nothing of that is in here: only a boat on a lake", {})
    return psql


def add(psql, key, title, content, metadata):
    from psycopg.types.json import Jsonb

    psql("INSERT INTO articles (id, title, content, metadata) VALUES (%s, %s, %s, %s)", key, title, content, Jsonb(metadata))


@pytest.mark.parametrize("indexed", [False, True], ids=["scan", "index"])
@pytest.mark.parametrize(("title", "content", "metadata", "words"), FOUND)
def test_an_article_is_found_by(articles, store, title, content, metadata, words, indexed):
    add(articles, "wanted", title, content, metadata)
    if indexed:
        build_words(store.database)

    found = store.search.matches(words, 5)

    assert [row["article_id"] for row in found] == ["wanted"]
    assert found[0]["share"] == pytest.approx(1)


@pytest.mark.parametrize("indexed", [False, True], ids=["scan", "index"])
def test_the_only_article_with_a_rare_word_comes_first_among_many_with_the_frequent_ones(articles, store, indexed):
    articles(
        "INSERT INTO articles (id, title, content) SELECT 'file' || n, 'File error', 'A file error while a file was read' FROM generate_series(1, 1500) n"
    )
    add(articles, "wanted", "QX4711", "The code qx4711 of a machine, told with an error", {})
    if indexed:
        build_words(store.database)

    best = store.search.matches("qx4711 file error", 3)[0]

    assert (best["article_id"], best["rarest"]) == ("wanted", 1)


def test_a_word_in_the_title_counts_more(articles, store):
    add(articles, "b", "Something", "A pump for the cellar and for the roof", {})
    add(articles, "c", "A pump", "For the cellar and for the roof and so on", {})

    assert [row["article_id"] for row in store.search.matches("pump", 2)] == ["c", "b"]


def test_words_of_another_tenant_or_against_a_filter_are_not_found(articles, store):
    add(articles, "wanted", "Pump", "water", {"kind": "machine"})

    assert store.search.matches("pump", 5, "nobody") == []
    assert store.search.matches("pump", 5, None, {"kind": "plant"}) == []
    assert len(store.search.matches("pump", 5, "default", {"kind": "machine"})) == 1


def test_of_two_articles_with_the_same_words_the_shorter_one_comes_first(articles, store):
    add(articles, "b", "Long", "pump valve " + "and something else about a house with many rooms " * 50, {})
    add(articles, "c", "Short", "a pump and its valve", {})

    assert [row["article_id"] for row in store.search.matches("pump valve", 2)] == ["c", "b"]


def test_articles_that_are_near_are_looked_at_however_many_have_more_of_the_words(articles, store):
    articles(
        "INSERT INTO articles (id, title, content) SELECT 'file' || n, 'File error', 'A file error while a file was read' FROM generate_series(1, 150) n"
    )
    add(articles, "near", "Files", "how one is read", {})

    found = store.search.matches("file error", 200, near=["near"])

    assert found[-1]["article_id"] == "near"
    assert 0 < found[-1]["share"] < found[0]["share"]
    assert found[0]["terms"] == 2


WEAK, STRONG = Words(2.0, 0.3, 400, None, 6, 5000), Words(9.0, 1.0, 400, None, 6, 5000)
LOOKED_UP = Words(9.0, 1.0, 3, None, 2, 5000)
NAMED = Words(2.0, 0.3, 1, 1, 6, 5000)


@pytest.mark.parametrize(
    ("words", "order"),
    [
        pytest.param({}, ["a", "b", "c"], id="without words the cosine decides"),
        pytest.param(
            {"b": WEAK, "c": LOOKED_UP}, ["c", "a", "b"], id="one or two words, one of them rare, in an article that has them"
        ),
        pytest.param(
            {"c": LOOKED_UP._replace(terms=6)},
            ["a", "b", "c"],
            id="the same among the words of a sentence only lifts it a little",
        ),
        pytest.param({"c": LOOKED_UP._replace(share=0.5)}, ["a", "b", "c"], id="an article that lacks one of the two"),
        pytest.param({"c": LOOKED_UP._replace(articles=50)}, ["a", "b", "c"], id="three of fifty articles are not few"),
        pytest.param({"b": STRONG, "c": WEAK}, ["b", "a", "c"], id="many words lift what is nearly as near"),
        pytest.param({"c": STRONG}, ["a", "b", "c"], id="but not what is far"),
        pytest.param({"b": NAMED}, ["b", "a", "c"], id="a rare code comes first, whatever else was asked"),
        pytest.param(
            {"c": NAMED._replace(rarest=400, rarest_name=400)}, ["a", "b", "c"], id="a frequent code only lifts it a little"
        ),
        pytest.param({"x": LOOKED_UP}, ["x", "a", "b", "c"], id="what was found by words alone"),
    ],
)
def test_two_rankings_become_one(words, order):
    cosines = {"a": 0.8, "b": 0.75, "c": 0.5} | ({"x": 0.1} if "x" in words else {})

    assert mixed(["a", "b", "c"], cosines, words) == order


def test_the_order_does_not_depend_on_how_many_were_found_beyond_the_twentieth():
    near = [f"{number:02}" for number in range(60)]
    cosines = {key: 0.9 - int(key) / 100 for key in near}
    words = {"05": STRONG, "15": WEAK}

    few = mixed(near[:20], {key: cosines[key] for key in near[:20]}, words)

    assert mixed(near, cosines, words)[:20] == few


def test_ranks_are_added_where_the_model_compares_words_only():
    assert mixed(["a", "b", "c"], {"a": 0.9, "b": 0.8, "c": 0.1}, {"c": STRONG, "b": WEAK}, lexical=True) == ["c", "b", "a"]
