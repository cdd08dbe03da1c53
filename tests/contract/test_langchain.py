"""The standard tests of the package langchain-tests, on real servers: in mode sync, and with a worker that embeds what is written."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

pytest.importorskip("langchain_tests", reason="pip install 'embedq[langchain]' langchain-tests")

from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from embedq import AsyncClient, Client
from embedq.errors import InputError, NotWell
from embedq.integrations.langchain import EmbedqRetriever, EmbedqVectorStore
from embedq.settings import from_env
from tests.conftest import fresh_database
from tests.support import start_poller

WAIT_S = 30.0


class Place:
    """A database of its own in which what is written gets its vectors: at once, or by a worker."""

    def __init__(self, url, redis_url, how):
        self.environment = {
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "EMBEDDING_PROVIDER": "hashing",
            "EMBEDDING_DIMENSIONS": "64",
            "EMBEDDING_WORKER_INTERVAL": "200",
        }
        self.sql = psycopg.connect(url, autocommit=True)
        self.wait_s = WAIT_S if how == "worker" else 0.0
        self.sql.execute("UPDATE embedding_worker_status SET mode = %s", ["database" if how == "worker" else "sync"])

    def store(self, **more):
        return EmbedqVectorStore(Client(from_env(self.environment)), wait_s=self.wait_s, **more)

    def empty(self):
        self.sql.execute("DELETE FROM articles")


@pytest.fixture(scope="module", params=["sync", "worker"])
def lasting(request, servers, template):
    with fresh_database(servers, template) as url:
        place = Place(url, servers.redis_url, request.param)
        if request.param == "sync":
            yield place
        else:
            with start_poller(place.environment):
                yield place
        place.sql.close()


@pytest.fixture
def place(lasting):
    lasting.empty()
    return lasting


@pytest.fixture
def store(place):
    made = place.store()
    yield made
    asyncio.run(made.aclose())
    made.clients.client.close()


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio' but it is not an async function.*")
class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, store):
        return store


QUERY = "hot drinks"


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio' but it is not an async function.*")
class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def filled(self, store):
        self.filled_store = store
        store.add_texts(["hot tea", "hot coffee", "hot milk", "cold drinks", "hot chocolate"])

    @property
    def retriever_constructor(self):
        return EmbedqRetriever

    @property
    def retriever_constructor_params(self):
        return {"store": self.filled_store}

    @property
    def retriever_query_example(self):
        return QUERY


# What the standard tests do not ask -----------------------------------------------------------------------------------------------


TEA = Document(
    id="tea", page_content="steeped in hot water", metadata={"title": "Green tea", "topic": "drinks", "cups": [1, 2]}
)
TOWELS = Document(id="towels", page_content="of linen", metadata={"title": "Tea towels", "topic": "linen"})


def test_a_document_is_an_article_with_its_title(place, store):
    store.add_documents([TEA])

    rows = place.sql.execute("SELECT id, tenant_id, title, content, metadata FROM articles").fetchall()
    assert rows == [("tea", "default", "Green tea", "steeped in hot water", {"topic": "drinks", "cups": [1, 2]})]
    assert store.similarity_search("green tea", k=1) == [TEA]


def test_an_article_that_another_program_wrote_is_found_as_a_document(place, store):
    place.sql.execute("INSERT INTO articles (id, title, content, metadata) VALUES ('a', 'Tea', 'steeped', '{\"cups\": 2}')")
    store.clients.client.edit("a", content="brewed")
    store.clients.client.wait(["a"], WAIT_S)

    assert store.similarity_search("tea") == [Document(id="a", page_content="brewed", metadata={"title": "Tea", "cups": 2})]


def test_scores_are_cosines_and_relevance_is_between_0_and_1(store):
    store.add_documents([TEA, TOWELS])

    scored = dict_of(store.similarity_search_with_score("Green tea\n\nsteeped in hot water"))
    relevant = dict_of(store.similarity_search_with_relevance_scores("Green tea\n\nsteeped in hot water"))

    assert scored["tea"] == pytest.approx(1.0, abs=1e-5)
    assert scored["towels"] < 1
    assert all(0 <= relevance <= 1 for relevance in relevant.values())


def dict_of(scored):
    return {document.id: score for document, score in scored}


@pytest.mark.parametrize("hybrid", [False, True])
def test_what_client_search_knows_can_be_wished_for(store, hybrid):
    store.add_documents([TEA, TOWELS])

    retriever = store.as_retriever(search_kwargs={"filter": {"topic": "linen"}, "hybrid": hybrid})

    assert retriever.invoke("tea") == [TOWELS]
    assert EmbedqRetriever(store=store, search_kwargs={"filter": {"topic": "linen"}}).invoke("tea") == [TOWELS]
    assert store.similarity_search("tea", min_score=0.9999, hybrid=hybrid) == []


def test_a_store_sees_and_changes_its_own_tenant_alone(place, store):
    theirs = place.store(tenant_id="theirs")
    store.add_documents([TEA])

    with pytest.raises(InputError, match="cannot be used by the tenant 'theirs'"):
        theirs.add_documents([Document(id="tea", page_content="spilt")])
    theirs.delete(["tea"])

    assert theirs.similarity_search("green tea") == theirs.get_by_ids(["tea"]) == []
    assert store.get_by_ids(["tea"]) == [TEA]
    theirs.clients.client.close()


def test_of_two_documents_with_one_id_the_last_is_saved(store):
    ids = store.add_documents([TEA, Document(id="tea", page_content="brewed")])

    assert ids == ["tea", "tea"]
    assert store.get_by_ids(["tea"]) == [Document(id="tea", page_content="brewed")]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda store: store.delete(), id="delete without ids"),
        pytest.param(lambda store: store.add_documents([TEA, TOWELS], ids=["tea"]), id="fewer ids than documents"),
        pytest.param(lambda store: store.add_texts(["x"], [{"when": object()}]), id="metadata that JSON cannot hold"),
        pytest.param(lambda store: store.add_documents([Document(page_content="")]), id="nothing to embed"),
        pytest.param(lambda store: store.from_texts(["x"], VectorStoreIntegrationTests.get_embeddings()), id="an embedding"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_next_step_and_writes_nothing(place, store, call):
    with pytest.raises(InputError) as refused:
        call(store)

    assert refused.value.hint
    assert place.sql.execute("SELECT count(*) FROM articles").fetchone() == (0,)


def test_from_texts_makes_a_store_sync_and_async(place):
    settings = from_env(place.environment)

    async def later():
        store = await EmbedqVectorStore.afrom_texts(
            ["hot milk"], ids=["milk"], async_client=AsyncClient(settings), wait_s=place.wait_s
        )
        found = await store.asimilarity_search("hot milk", k=1)
        await store.aadd_texts(["cold milk"], [{"title": "Cold"}], ids=["cold"])
        await store.clients.async_client.close()
        return found

    with Client(settings) as client:
        store = EmbedqVectorStore.from_texts(["hot tea"], None, [{"cups": 1}], ids=["tea"], client=client, wait_s=place.wait_s)
        found = store.similarity_search("hot tea", k=1)

    assert found == [Document(id="tea", page_content="hot tea", metadata={"cups": 1})]
    assert asyncio.run(later()) == [Document(id="milk", page_content="hot milk")]
    assert place.sql.execute("SELECT title FROM articles WHERE id = 'cold'").fetchone() == ("Cold",)


def test_a_write_that_is_not_embedded_in_time_says_so_and_is_saved(settings, psql):
    """Mode database, and no worker."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    store = EmbedqVectorStore(Client(settings), wait_s=0.2)

    with pytest.raises(NotWell, match=r"1 articles are not embedded after 0\.2 s") as late:
        store.add_documents([TEA])

    assert "embedq explain tea" in late.value.hint
    assert psql("SELECT id FROM articles") == [("tea",)]
    store.clients.client.close()


def test_clients_that_the_store_made_are_closed_with_it(settings, psql, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = EmbedqVectorStore()

    async def use():
        await store.aadd_documents([TEA])
        store.add_documents([TOWELS])
        await store.aclose()

    asyncio.run(use())

    assert psql("SELECT count(*) FROM articles") == [(2,)]
