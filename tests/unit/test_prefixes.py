"""What known models want before a text, what an operator may say of others, and that the prefix counts where sizes count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from embedq.decide.preparation import for_register, of_register, prefixes_of, same_prefixes
from embedq.engine.requests import Asker
from embedq.errors import ConfigError, InputRefused
from embedq.model import Model, Preparation, Role
from embedq.providers import Embedded, Limits, ProviderSettings
from embedq.providers.prefixes import PREFIXES, known_preparation
from embedq.providers.prepared import prepared
from embedq.settings import from_env

REPRESENT = "Represent this sentence for searching relevant passages: "
INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@pytest.mark.parametrize(
    ("name", "document", "query"),
    [
        ("nomic-embed-text", "search_document: ", "search_query: "),
        ("nomic-embed-text:latest", "search_document: ", "search_query: "),
        ("nomic-ai/nomic-embed-text-v1.5", "search_document: ", "search_query: "),
        ("hf.co/nomic-ai/nomic-embed-text-v2-moe-GGUF:Q4_K_M", "search_document: ", "search_query: "),
        ("text-embedding-nomic-embed-text-v1.5", "search_document: ", "search_query: "),
        ("/models/Nomic_Embed_Text-v1.5.f16.gguf", "search_document: ", "search_query: "),
        ("intfloat/e5-base-v2", "passage: ", "query: "),
        ("intfloat/multilingual-e5-large", "passage: ", "query: "),
        ("jeffh/intfloat-multilingual-e5-large:f16", "passage: ", "query: "),
        ("intfloat/multilingual-e5-large-instruct", "", f"{INSTRUCT} "),
        ("intfloat/e5-mistral-7b-instruct", "", f"{INSTRUCT} "),
        ("BAAI/bge-small-en-v1.5", "", REPRESENT),
        ("bge-large:latest", "", REPRESENT),
        ("BAAI/bge-large-zh-v1.5", "", "为这个句子生成表示以用于检索相关文章："),
        ("bge-m3:latest", "", ""),
        ("mixedbread-ai/mxbai-embed-large-v1", "", REPRESENT),
        ("snowflake-arctic-embed:335m", "", REPRESENT),
        ("snowflake-arctic-embed2", "", "query: "),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "", "query: "),
        ("Qwen/Qwen3-Embedding-0.6B", "", INSTRUCT),
        ("qwen3-embedding:8b", "", INSTRUCT),
        ("embeddinggemma:300m", "title: none | text: ", "task: search result | query: "),
        ("text-embedding-3-small", "", ""),
        ("all-minilm:latest", "", ""),
        ("a-model-that-nobody-knows", "", ""),
        ("voyager", "", ""),
        ("thee5-basement", "", ""),
    ],
)
def test_a_known_model_wants_its_own_whatever_a_server_writes_with_its_name(name, document, query):
    found = known_preparation("ollama", name)

    assert (found.document, found.query) == (document, query)


@pytest.mark.parametrize(
    ("name", "document", "query"),
    [
        ("jina-embeddings-v3", '{"task": "retrieval.passage"}', '{"task": "retrieval.query"}'),
        ("voyage-3-large", '{"input_type": "document"}', '{"input_type": "query"}'),
        ("cohere/embed-multilingual-v3.0", '{"input_type": "search_document"}', '{"input_type": "search_query"}'),
        ("nvidia/nv-embedqa-e5-v5", '{"input_type": "passage"}', '{"input_type": "query"}'),
    ],
)
def test_a_hosted_model_is_told_by_a_field_of_the_request_where_requests_have_fields(name, document, query):
    found = known_preparation("openai", name)

    assert (found.document_parameters, found.query_parameters) == (document, query)
    assert known_preparation("ollama", name) == Preparation()


def test_each_row_is_found_by_its_own_name_and_says_its_source():
    for row in PREFIXES:
        assert row.source
        assert known_preparation("openai", row.name) == row.preparation


def test_what_an_operator_says_is_read():
    said = prefixes_of('{"document": "passage: ", "query": "q\\n", "query_parameters": {"task": "q", "a": 1}}')

    assert said == Preparation(document="passage: ", query="q\n", query_parameters='{"a": 1, "task": "q"}')
    assert prefixes_of("") is prefixes_of("known") is None
    assert prefixes_of("{}") == Preparation()


@pytest.mark.parametrize(
    "raw",
    [
        "passage: ",
        "[]",
        '{"documents": "passage: "}',
        '{"document": 1}',
        '{"document": "\\u0000"}',
        '{"document": "\\ud83c"}',
        '{"document_parameters": "x"}',
        '{"document_parameters": {"input": []}}',
        f'{{"query": "{"x" * 2001}"}}',
    ],
)
def test_what_is_no_such_thing_is_refused_with_an_example_or_the_reason(raw):
    with pytest.raises(ConfigError, match="EMBEDDING_PREFIXES"):
        from_env({"EMBEDDING_PREFIXES": raw})


def test_the_register_keeps_only_what_is_not_as_usual_and_a_later_versions_words_are_left_out():
    made = Preparation(query="query: ", chunk_tokens=300, chunk_overlap=0)

    assert for_register(made) == {"query": "query: ", "chunk_tokens": 300, "chunk_overlap": 0}
    assert of_register(for_register(made) | {"of_a_later_version": 1}) == made
    assert for_register(Preparation()) == {}


def test_sizes_and_names_are_no_prefixes():
    one = Preparation(document="a", chunk_tokens=300, asked_as="x")

    assert same_prefixes(one, Preparation(document="a"))
    assert not same_prefixes(one, Preparation(document="b"))
    assert not same_prefixes(one, Preparation(document="a", query_parameters='{"task": "q"}'))


class Recorder:
    """Keeps what it is asked for; its vectors say nothing."""

    def __init__(self, model: Model, settings: ProviderSettings) -> None:
        self.model, self.parameters = model, settings.parameters
        self.limits = Limits(max_inputs=10, max_tokens=100, max_input_tokens=50)
        self.asked: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Embedded:
        self.asked.append(list(texts))
        return Embedded(np.ones((len(texts), self.model.dimensions), dtype=np.float32), len(texts))

    def close(self) -> None:
        pass


NOMIC = Model("x", "nomic#2", 4, 7, Preparation("search_document: ", "search_query: ", asked_as="nomic"))


def made(model: Model, role: Role) -> object:
    return prepared(Recorder, model, ProviderSettings(), role)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_has_its_prefix_and_the_server_is_asked_for_its_own_name(role):
    provider = made(NOMIC, role)

    provider.embed(["tea"])

    assert provider.inner.asked == [[f"search_{role.value}: tea"]]
    assert (provider.inner.model.name, provider.model) == ("nomic", NOMIC)


def test_a_blank_text_is_refused_although_a_prefix_stands_before_it():
    provider = made(NOMIC, Role.QUERY)

    with pytest.raises(InputRefused):
        provider.embed([" "])


def test_fields_are_refused_where_nothing_is_sent():
    model = Model("local", "x", 4, preparation=Preparation(query_parameters='{"task": "q"}'))

    with pytest.raises(ConfigError, match="sends none"):
        made(model, Role.QUERY)


def test_fields_are_given_to_the_provider_by_role():
    model = Model("x", "x", 4, preparation=Preparation(query_parameters='{"task": "q"}'))

    assert made(model, Role.QUERY).parameters == {"task": "q"}
    assert made(model, Role.DOCUMENT).parameters == {}


def test_the_tokens_of_the_prefix_count_in_the_limits_of_a_text_and_of_a_request():
    long_prefix = Preparation(document="a prefix of twenty tokens " * 3)
    plain = made(Model("x", "x", 4), Role.DOCUMENT)
    provider = made(Model("x", "x", 4, preparation=long_prefix), Role.DOCUMENT)
    texts = ["four words of text"] * 10

    plain_requests, requests = Asker(plain, 10).ask(texts, lambda: False), Asker(provider, 10).ask(texts, lambda: False)

    overhead = provider.limits.overhead_tokens
    assert 15 <= overhead <= 25
    assert provider.limits.max_input_tokens == 50 - overhead
    assert plain_requests.requests == 1
    assert requests.requests > 1
    assert all(len(batch) * overhead <= 100 for batch in provider.inner.asked)
    assert not requests.refused
