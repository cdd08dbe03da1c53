"""What is made of a ranking: more like an article, several queries, pages, folded duplicates, diversity, rerankers."""

from __future__ import annotations

import asyncio
import sys

import pytest

from embedq import AsyncClient
from embedq.errors import InputError, NotFound, NotWell
from tests.support import run_command

RERANKERS = """
class Backwards:
    def scores(self, query, texts):
        return [float(place) for place in range(len(texts))]

class Longest:
    def scores(self, query, texts):
        return [len(text) for text in texts]

class Lossy:
    def scores(self, query, texts):
        return [1.0]

def broken():
    raise RuntimeError("no weights here")
"""
POINTS = "backwards = third_reranker:Backwards\nlongest = third_reranker:Longest\nlossy = third_reranker:Lossy\nbroken = third_reranker:broken\n"


@pytest.fixture
def rerankers(tmp_path, monkeypatch):
    """A package is installed, as pip would, that registers rerankers."""
    (tmp_path / "third_reranker.py").write_text(RERANKERS)
    metadata = tmp_path / "third_reranker-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-reranker\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[embedq.rerankers]\n{POINTS}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "third_reranker", raising=False)


@pytest.fixture
def kitchen(client, psql):
    """Five articles, embedded; `copy` says in another case what `tea` says, and `theirs` belongs to another tenant."""
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    texts = {
        "tea": ("Tea", "Steep the leaves in hot water"),
        "copy": ("Tea once more", "steep the  LEAVES in hot water"),
        "soup": ("Soup", "Leaves and roots in hot water"),
        "cocoa": ("Cocoa", "Stir the powder into hot milk"),
        "train": ("Trains", "They leave from platform nine"),
    }
    for key, (title, content) in texts.items():
        client.create(title, content, id=key, slug=f"the-{key}")
    client.create("Tea", "Steep the leaves in hot water", id="theirs", tenant_id="acme")
    return client


def ids(hits):
    return [hit.article_id for hit in hits]


def test_more_like_an_article_are_those_near_it_in_its_tenant_without_itself(kitchen):
    near = kitchen.more_like("the-tea", 3)

    assert ids(near)[:2] == ["copy", "soup"]
    assert "theirs" not in ids(kitchen.more_like("tea", 50))
    assert len(kitchen.more_like("tea", 50)) == 4
    assert ids(kitchen.more_like("theirs", 5)) == []
    assert near[0].score > near[1].score


def test_more_like_asks_no_provider(kitchen, monkeypatch):
    monkeypatch.setattr(kitchen._parts, "ask", None)

    assert kitchen.more_like("tea", 1)


def test_more_like_what_is_not_there_or_not_embedded_is_told(kitchen, psql):
    with pytest.raises(NotFound):
        kitchen.more_like("nowhere")
    with pytest.raises(NotFound):
        kitchen.more_like("tea", tenant_id="acme")
    psql("DELETE FROM embedding_vectors WHERE article_id = 'tea'")

    with pytest.raises(NotWell, match="no vector") as told:
        kitchen.more_like("tea")

    assert "embedq explain tea" in told.value.hint


def test_several_queries_are_one_request_and_answered_in_their_order(kitchen, monkeypatch):
    asked, ask = [], kitchen._parts.ask
    monkeypatch.setattr(kitchen._parts, "ask", lambda provider, texts: asked.append(list(texts)) or ask(provider, texts))

    answers = kitchen.search_many(["hot milk", "platform nine"], 2, filter={"nothing": {"$exists": False}})

    assert [ids(hits)[0] for hits in answers] == ["cocoa", "train"]
    assert asked == [["hot milk", "platform nine"]]
    assert answers == [kitchen.search(query, 2) for query in ("hot milk", "platform nine")]


@pytest.mark.parametrize("wrong", [[], ["tea", " "], ["x"] * 51])
def test_no_queries_a_blank_one_and_too_many_are_refused(kitchen, wrong):
    with pytest.raises(InputError):
        kitchen.search_many(wrong)


@pytest.mark.parametrize("hybrid", [False, True])
def test_pages_together_are_the_whole_ranking(kitchen, hybrid):
    whole = ids(kitchen.search("hot water for leaves", 6, hybrid=hybrid, offset=0))

    pages = [ids(kitchen.search("hot water for leaves", 2, hybrid=hybrid, offset=offset)) for offset in (0, 2, 4, 6)]

    assert len(whole) == 6
    assert [key for page in pages for key in page] == whole
    assert pages[-1] == []


@pytest.mark.parametrize(("k", "offset"), [(10, -1), (10, 191), (201, 0)])
def test_pages_end_where_the_ranking_does(kitchen, k, offset):
    with pytest.raises(InputError, match="offset"):
        kitchen.search("tea", k, offset=offset)


def test_articles_of_the_same_content_are_folded_into_the_best_of_them(kitchen):
    plain = ids(kitchen.search("steep leaves in hot water", 4, tenant_id="default"))
    hits = kitchen.search("steep leaves in hot water", 4, tenant_id="default", fold=True)

    assert {"tea", "copy"} <= set(plain)
    same = {hits[0].article_id, *hits[0].duplicates}
    assert same == {"tea", "copy"}
    assert len(hits) == 4
    assert [hit.duplicates for hit in hits[1:]] == [[]] * 3


def test_diverse_results_are_unlike_each_other(kitchen):
    plain = ids(kitchen.search("steep leaves in hot water", 2, tenant_id="default"))
    mixed = ids(kitchen.search("steep leaves in hot water", 2, tenant_id="default", diversity=0.7))

    assert set(plain) == {"tea", "copy"}
    assert mixed[0] == plain[0]
    assert mixed[1] not in plain
    assert ids(kitchen.search("steep leaves in hot water", 2, tenant_id="default", diversity=1.0))[0] == plain[0]


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_no_such_diversity(kitchen, diversity):
    with pytest.raises(InputError, match="diversity"):
        kitchen.search("tea", diversity=diversity)


def test_a_reranker_of_another_package_has_the_last_word_and_the_score_stays_the_cosine(kitchen, rerankers):
    plain = kitchen.search("leaves in hot water", 6)
    turned = kitchen.search("leaves in hot water", 6, rerank="backwards")

    assert turned == plain[::-1]
    assert kitchen.search("leaves in hot water", 1, rerank="longest")[0].article_id == "copy"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [("nobody", InputError, "backwards"), ("lossy", NotWell, "1 numbers for 6 texts"), ("broken", NotWell, "no weights here")],
)
def test_a_reranker_that_is_not_there_or_does_not_keep_its_promise_is_named(kitchen, rerankers, name, kind, words):
    with pytest.raises(kind) as told:
        kitchen.search("leaves", rerank=name)

    assert words in f"{told.value} {told.value.hint}"


def test_hits_say_when_the_article_was_written(kitchen):
    hit = kitchen.search("hot milk", 1)[0]

    assert hit.created_at is not None
    assert hit.created_at <= hit.updated_at


def test_the_async_client_answers_the_same(kitchen, rerankers, settings):
    async def ask():
        async with AsyncClient(settings) as client:
            return (
                await client.more_like("tea", 3, fold=True),
                await client.search_many(["hot milk", "platform nine"], 2),
                await client.search("leaves", 6, rerank="backwards", offset=0),
            )

    more, many, turned = asyncio.run(ask())

    assert more == kitchen.more_like("tea", 3, fold=True)
    assert many == kitchen.search_many(["hot milk", "platform nine"], 2)
    assert turned == kitchen.search("leaves", 6, rerank="backwards", offset=0)


def test_the_command_takes_several_queries_an_article_and_pages(kitchen, environment):
    several = run_command(environment, "search", "hot milk", "platform nine", "-k", "1")
    like = run_command(environment, "search", "--like", "tea", "-k", "1", "--json")
    page = run_command(environment, "search", "hot water", "-k", "1", "--offset", "1", "--fold", "--diversity", "0.2")
    neither = run_command(environment, "search")
    both = run_command(environment, "search", "tea", "--like", "tea")

    assert several.returncode == 0, several.stderr
    assert "Cocoa" in several.stdout and "Trains" in several.stdout
    assert '"copy"' in like.stdout, like.stderr
    assert page.returncode == 0, page.stderr
    hybrid = run_command(environment, "search", "--like", "tea", "--hybrid")
    assert (neither.returncode, both.returncode, hybrid.returncode) == (2, 2, 2)
    assert "--like" in neither.stderr
