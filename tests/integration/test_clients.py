"""`Client` and `AsyncClient`: the same names, the same signatures, the same behaviour."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from embedq import ArticleDraft, AsyncClient, Client
from embedq.addresses import Address
from embedq.errors import EmbedqError, InputError, NotFound, NotWell, StoreUnavailable
from embedq.model import Model
from tests.clients import KINDS, opened
from tests.support import free_port, start_poller

T = typing.TypeVar("T")
# Parts of embedq's own that block, for its doors: no application needs them.
NOT_FOR_APPLICATIONS = {"store", "broker", "publisher", "provider", "create_with_task"}
# Their names in a class are fixed by Python.
RENAMED = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def surface(client):
    """The names of its methods, with those of a context manager, and of its properties."""
    own = {name for name in vars(client) if not name.startswith("_")}
    return own | {name for name in (*RENAMED, *RENAMED.values()) if name in vars(client)}


def test_both_clients_have_the_same_names():
    expected = {RENAMED.get(name, name) for name in surface(Client) - NOT_FOR_APPLICATIONS}

    assert surface(AsyncClient) == expected


@pytest.mark.parametrize("name", ["__init__", *sorted(surface(Client) - NOT_FOR_APPLICATIONS)])
def test_a_method_has_the_same_signature_in_both_clients(name):
    ours, theirs = getattr(Client, name), getattr(AsyncClient, RENAMED.get(name, name))

    assert parameters(ours) == parameters(theirs)
    assert returns(theirs) == AWAITED.get(returns(ours), returns(ours))
    assert name == "__init__" or inspect.iscoroutinefunction(inspect.unwrap(theirs)) or name == "within"


AWAITED = {Client: AsyncClient, Iterator[None]: AsyncIterator[None]}
# Each with the sessions of its side of SQLAlchemy.
SESSIONS = {"Session": Session, "AsyncSession": Session}


def parameters(method):
    return [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()], {
        name: kind for name, kind in hints(method).items() if name != "return"
    }


def returns(method):
    return hints(method).get("return", types.NoneType)


def hints(method):
    inner = inspect.unwrap(method)
    return typing.get_type_hints(inner, vars(inspect.getmodule(inner)) | SESSIONS | {"T": T, "M": T})


@pytest.fixture(params=KINDS)
def client(request, settings, psql):
    """Either client, in mode sync: what it saves can be found at once."""
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    with opened(request.param, settings) as client:
        yield client


def test_what_is_created_can_be_got_by_id_and_by_slug(client):
    article = client.create("Tea", "steeped", slug="tea", metadata={"topic": "drinks"})

    assert client.get(article.id) == client.get("tea") == article
    assert (article.title, article.metadata, article.embedding_status) == ("Tea", {"topic": "drinks"}, "ready")


def test_what_is_put_is_created_changed_or_left_alone(client):
    client.put([ArticleDraft("Tea", "steeped", "a"), ArticleDraft("Coffee", "pressed", "b")])

    written = client.put(
        [ArticleDraft("Tea", "brewed", "a"), ArticleDraft("Coffee", "pressed", "b"), ArticleDraft("Milk", "hot")]
    )

    assert (written.created, written.changed) == (1, 1)
    assert client.get("a").content == "brewed"


def test_an_edit_makes_a_version_and_a_restore_brings_the_earlier_back(client):
    article = client.create("Tea", "steeped")

    edited = client.edit(article.id, content="brewed", if_version=article.version)
    restored = client.restore(article.id)

    assert (edited.content, edited.version) == ("brewed", article.version + 1)
    assert (restored.content, restored.version) == ("steeped", article.version + 2)


def test_an_edit_of_what_was_changed_meanwhile_is_refused_and_writes_nothing(client):
    article = client.create("Tea", "steeped")
    client.edit(article.id, content="brewed")

    with pytest.raises(NotFound, match="not as it was read"):
        client.edit(article.id, content="cold", if_version=article.version)

    assert client.get(article.id).content == "brewed"


def test_a_deleted_article_is_gone_and_can_be_restored_by_its_id(client):
    article = client.create("Tea", "steeped")
    client.delete(article.id)

    with pytest.raises(NotFound):
        client.get(article.id)
    assert client.restore(article.id).content == "steeped"


def test_many_are_got_in_the_order_of_their_ids_and_what_is_not_there_is_left_out(client):
    client.put(
        [
            ArticleDraft("Tea", "steeped", "a"),
            ArticleDraft("Coffee", "pressed", "b"),
            ArticleDraft("Milk", "hot", "c", tenant_id="other"),
        ]
    )

    assert [article.title for article in client.get_many(["b", "nothing", "c", "a"])] == ["Coffee", "Milk", "Tea"]
    assert [article.title for article in client.get_many(["b", "c"], tenant_id="other")] == ["Milk"]
    assert client.get_many([]) == []


def test_what_is_waited_for_is_embedded_when_the_wait_ends(client, psql, environment):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    waiting = client.create("Tea", "steeped").id
    with start_poller(environment):
        statuses = client.wait([waiting, "nothing"])

    assert statuses == {waiting: "ready"}
    assert client.get(waiting).embedding_status == "ready"


def test_a_wait_ends_with_an_error_that_names_what_is_not_embedded(client, psql):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    client.create("Tea", "steeped", id="a")

    with pytest.raises(NotWell, match="1 articles are not embedded") as late:
        client.wait(["a"], 0.1)

    assert "embedq explain a" in late.value.hint


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_search_finds_the_nearest_of_its_tenant_and_filter_first(client, hybrid):
    client.put(
        [
            ArticleDraft("Green tea", "steeped in hot water", "tea", metadata={"topic": "drinks"}),
            ArticleDraft("Tea towels", "of linen", "towels", metadata={"topic": "linen"}),
            ArticleDraft("Green tea", "steeped in hot water", "theirs", tenant_id="other", metadata={"topic": "drinks"}),
        ]
    )

    hits = client.search("green tea in hot water", 5, tenant_id="default", hybrid=hybrid)
    filtered = client.search("green tea in hot water", 5, tenant_id="default", filter={"topic": "linen"}, hybrid=hybrid)

    assert [hit.article_id for hit in hits] == ["tea", "towels"]
    assert [hit.article_id for hit in filtered] == ["towels"]
    assert client.search("green tea in hot water", 5, min_score=0.99, hybrid=hybrid) == []


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client: client.create("", ""), id="an empty article"),
        pytest.param(lambda client: client.create("Tea", "steeped", id="a b"), id="an id with a space"),
        pytest.param(lambda client: client.create("Tea", "steeped", priority="soon"), id="an unknown priority"),
        pytest.param(lambda client: client.put([ArticleDraft("", "")]), id="an empty draft"),
        pytest.param(lambda client: client.edit("a", colour="green"), id="an unknown field"),
        pytest.param(lambda client: client.search(" "), id="an empty query"),
        pytest.param(lambda client: client.search("tea", 0), id="no results wanted"),
        pytest.param(lambda client: client.create("Tea", "steeped", slug="taken"), id="a slug that is taken"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(client, psql, call):
    client.create("Tea", "steeped", id="a", slug="taken")

    with pytest.raises((InputError, ValueError)):
        call(client)

    assert psql("SELECT id, content FROM articles") == [("a", "steeped")]


def test_while_embedding_is_off_search_says_so(client, psql):
    psql("UPDATE embedding_worker_status SET mode = 'off', reason = 'a test'")

    assert client.decision().mode == "off"
    with pytest.raises(NotWell, match="a test"):
        client.search("tea")


def test_connections_that_the_server_has_ended_are_replaced(client, psql):
    article = client.create("Tea", "steeped")
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'embedq'"
    psql(f"SELECT pg_terminate_backend(pid) {ours}")

    with suppress(StoreUnavailable):  # the end of the session may be on its way yet
        client.get(article.id)

    assert client.get(article.id) == article


def test_a_model_that_was_activated_meanwhile_answers_the_next_search(client, store):
    client.create("Tea", "steeped", id="a")
    assert [hit.article_id for hit in client.search("tea")] == ["a"]
    second = store.models.add(Model("hashing", "hashing-v1", 96))
    store.models.activate(second, who="test", force=True)

    client.edit("a", content="brewed")

    assert [hit.article_id for hit in client.search("tea brewed")] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_where_nobody_listens_is_told_with_the_next_step(settings, kind):
    nobody = replace(settings, database_url=Address(f"postgresql://embedq@127.0.0.1:{free_port()}/embedq"))
    with opened(kind, nobody) as client, pytest.raises(EmbedqError, match="cannot be reached") as away:
        client.get("a")

    assert away.value.hint
