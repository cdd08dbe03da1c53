"""The retriever for LlamaIndex, sync and async, on real servers: it finds what embedq keeps embedded, and writes through it."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("llama_index.core", reason="pip install 'embedq[llama-index]'")

from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import Document, TextNode

from embedq import AsyncClient, Client
from embedq.errors import InputError
from embedq.integrations.llama_index import EmbedqRetriever

TEA = TextNode(id_="tea", text="steeped in hot water", metadata={"title": "Green tea", "topic": "drinks"})
TOWELS = Document(id_="towels", text="of linen", metadata={"title": "Tea towels", "topic": "linen"})


class Blocking:
    """The retriever's methods, as they are."""

    def __init__(self, settings, **more):
        self.inner = EmbedqRetriever(Client(settings), **more)
        self.add, self.delete, self.retrieve = self.inner.add_nodes, self.inner.delete_nodes, self.inner.retrieve

    def close(self):
        self.inner.clients.client.close()


class Driven:
    """The retriever's asynchronous methods, run in an event loop."""

    def __init__(self, settings, **more):
        self.loop = asyncio.new_event_loop()
        self.inner = EmbedqRetriever(async_client=AsyncClient(settings), **more)
        self.add, self.delete = self.run(self.inner.aadd_nodes), self.run(self.inner.adelete_nodes)
        self.retrieve = self.run(self.inner.aretrieve)

    def run(self, method):
        return lambda *args: self.loop.run_until_complete(method(*args))

    def close(self):
        self.run(self.inner.clients.async_client.close)()
        self.loop.close()


@pytest.fixture(params=[Blocking, Driven])
def make(request, settings, psql):
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    made = []

    def one(**more):
        made.append(request.param(settings, **more))
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_a_node_is_an_article_and_is_found_with_its_score(make, psql):
    retriever = make()

    assert retriever.add([TEA, TOWELS]) == ["tea", "towels"]

    best, other = retriever.retrieve("Green tea\n\nsteeped in hot water")
    assert (best.node_id, best.text, best.metadata) == ("tea", TEA.text, TEA.metadata)
    assert best.score == pytest.approx(1.0, abs=1e-5)
    assert other.node_id == "towels"
    assert psql("SELECT title, content, metadata FROM articles WHERE id = 'tea'") == [
        ("Green tea", "steeped in hot water", {"topic": "drinks"})
    ]


def test_a_node_that_is_added_again_is_replaced_and_one_that_is_deleted_is_gone(make):
    retriever = make()
    retriever.add([TEA, TOWELS])

    retriever.add([TextNode(id_="tea", text="brewed")])
    retriever.delete(["towels", "never there"])

    assert [(node.node_id, node.text, node.metadata) for node in retriever.retrieve("tea")] == [("tea", "brewed", {})]


def test_k_tenant_and_the_wishes_of_a_search_hold(make):
    make().add([TEA, TOWELS])

    assert len(make(k=1).retrieve("tea")) == 1
    assert [node.node_id for node in make(wishes={"filter": {"topic": "linen"}, "hybrid": True}).retrieve("tea")] == ["towels"]
    assert make(tenant_id="theirs").retrieve("tea") == []
    with pytest.raises(InputError, match="cannot be used by the tenant"):
        make(tenant_id="theirs").add([TEA])


def test_a_query_engine_answers_from_what_is_found(make, monkeypatch):
    retriever = make(k=1)
    retriever.add([TEA, TOWELS])
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    synthesizer = get_response_synthesizer(response_mode="no_text")
    engine = RetrieverQueryEngine(retriever.inner, synthesizer)

    answer = engine.query("green tea") if isinstance(retriever, Blocking) else retriever.run(engine.aquery)("green tea")

    assert [node.node_id for node in answer.source_nodes] == ["tea"]
