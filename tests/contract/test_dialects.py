"""Every server that calls itself OpenAI-compatible is understood, and what it has taught is not asked again."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from embedq.engine.requests import Asker
from embedq.engine.vectors import buy, planned, stored
from embedq.errors import InputRefused, ProviderBusy
from embedq.model import Claimed, Model, Priority
from embedq.providers import ProviderSettings
from embedq.providers.registry import make
from tests.dialects import DIMENSIONS, PRODUCTS, dialects
from tests.standin.vectors import vector_of

NAMES = {"vllm: dimensions are refused": "text-embedding-3-small"}
SHORT = [f"Article {number} is about tea." for number in range(60)]
WORDS = " ".join(f"Steep the leaves of number {number} in hot water, and wait for three minutes." for number in range(400))
DENSE = " ".join(f"550e8400-e29b-41d4-a716-{number:012}" for number in range(400))
KOREAN = "물을 끓여 찻잎에 붓고 삼 분 동안 기다립니다. " * 200
LONG = {"English": WORDS, "identifiers": DENSE, "Korean": KOREAN}


@pytest.fixture
def server():
    with dialects() as started:
        yield started


@pytest.fixture
def ask(server, store, monkeypatch):
    """Makes a function that embeds texts as a worker does: the vectors of each text's chunks, with the chunks' texts."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def asker_of(product, rest="/v1", **settings):
        model = store.models.add(Model("openai", NAMES.get(product, "a-model"), DIMENSIONS))
        given = {"openai_base_url": server.url(product, rest), "openai_api_key": "key-of-azure", "timeout_s": 20.0} | settings
        return Asker(make(model, ProviderSettings(**given)), 100, timeout_s=given["timeout_s"])

    def run(asker, texts):
        tasks = [_task(number, text, asker.provider.model.id) for number, text in enumerate(texts)]
        plans, answers = buy(store.vectors, asker, list(planned(tasks, asker.max_input_tokens)), lambda: False)
        assert answers.busy is None, answers.busy
        assert not answers.refused, next(iter(answers.refused.values()))
        assert not answers.left
        return [(plan, stored(plan, answers)) for plan in plans]

    run.asker = asker_of
    return run


def _task(number, text, model_id):
    return Claimed(
        number, str(number), "default", model_id, Priority.NORMAL, 1, 0, 0, datetime.now(UTC), title="", content=text, version=1
    )


def check(found, texts):
    """Every text is covered by chunks, and each has the vector of its very words."""
    for (plan, kept), text in zip(found, texts, strict=True):
        assert [chunk.text for chunk in plan.chunks] == [
            text[start:end] for start, end in zip(kept.starts, kept.ends, strict=True)
        ]
        for chunk, vector in zip(plan.chunks, kept.vectors, strict=True):
            np.testing.assert_allclose(vector, vector_of(chunk.text, DIMENSIONS), atol=1e-6)
        left = list(text)
        for chunk in plan.chunks:
            left[chunk.start : chunk.end] = " " * len(chunk.text)
        assert not "".join(left).strip()


REST = {"azure": "/openai/deployments/mine?api-version=2024-10-21"}


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_text_is_embedded_and_what_was_learnt_is_not_asked_again(ask, server, product):
    asker = ask.asker(product, REST.get(product, "/v1"))
    texts = [*SHORT, *LONG.values()]

    check(ask(asker, texts), texts)

    first, server.log[:] = list(server.log), []
    assert len(first) <= 200, first
    again = [f"{text} Again." for text in SHORT]
    check(ask(asker, again), again)
    assert server.refused() == 0
    assert len(server.log) <= 8


@pytest.mark.parametrize("product", [name for name in PRODUCTS if "tokens" in name and "request" not in name])
def test_a_length_that_was_named_is_kept_to_from_then_on(ask, server, product):
    asker = ask.asker(product)
    check(ask(asker, [WORDS]), [WORDS])
    server.log.clear()
    other = WORDS.replace("water", "milk")

    check(ask(asker, [other]), [other])

    assert server.refused() == 0


def test_a_length_that_is_never_named_is_learnt_from_many_texts(ask, server):
    asker = ask.asker("a length in no words")
    many = [WORDS.replace("number", f"kind {number} of number") for number in range(12)]
    check(ask(asker, many), many)
    server.log.clear()
    other = WORDS.replace("water", "milk")

    check(ask(asker, [other]), [other])

    assert server.refused() == 0


def test_vectors_without_indices_in_another_order_are_refused(ask, server):
    asker = ask.asker("no index, backwards")

    with pytest.raises(ProviderBusy, match="another vector than in its place"):
        asker.provider.embed(["one", "two", "three"])

    assert asker.provider.embed(["one"]).vectors.shape == (1, DIMENSIONS)


def test_the_order_of_a_server_without_indices_is_looked_at_once(ask, server):
    asker = ask.asker("no index")
    for number in range(3):
        asker.provider.embed([f"{number} one", f"{number} two"])

    assert [count for _, count in server.log] == [2, 1, 2, 2]


def test_a_text_that_is_refused_for_what_it_says_fails_in_the_end(ask, server, monkeypatch):
    monkeypatch.setitem(PRODUCTS, "plain", _refuse_the_word)
    asker = ask.asker("plain")

    tasks = [_task(1, WORDS + " poison " + WORDS, asker.provider.model.id), _task(2, "tea", asker.provider.model.id)]
    vectors = type("Nothing", (), {"known": lambda self, model_id, keys: {}})()
    plans, answers = buy(vectors, asker, list(planned(tasks, asker.max_input_tokens)), lambda: False)

    (refused,) = answers.refused.values()
    assert isinstance(refused, InputRefused)
    assert plans[1].first in answers.had
    assert server.refused() <= 20


def _refuse_the_word(asked, data):
    from tests.dialects import Refused

    if any("poison" in text for text in asked.texts):
        raise Refused(400, {"error": {"message": "this text is against the rules"}})
