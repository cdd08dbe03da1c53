"""The prefixes of known models: a model that was trained with prefixes gives much worse results without them.

Models without a row get none; for them use `EMBEDDING_PREFIXES` or `embedq model add --prefixes`. A registered model keeps its preparation
(`model.Preparation`): new rows here do not change it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..decide.preparation import fields
from ..model import Preparation
from .limits import bare_name

__all__ = ["PREFIXES", "PrefixRow", "known_preparation"]

# Providers that can send additional fields in a request.
WITH_PARAMETERS: Final = ("openai",)


class PrefixRow(NamedTuple):
    """`name`: part of the model's name, at the beginning or after a hyphen. `source`: where the prefixes are documented."""

    name: str
    preparation: Preparation
    source: str


_RETRIEVE: Final = "Given a web search query, retrieve relevant passages that answer the query"
_REPRESENT: Final = "Represent this sentence for searching relevant passages: "
_NONE: Final = Preparation()
_NOMIC: Final = Preparation(document="search_document: ", query="search_query: ")
_E5: Final = Preparation(document="passage: ", query="query: ")
_INSTRUCT: Final = Preparation(query=f"Instruct: {_RETRIEVE}\nQuery: ")
_SENTENCE: Final = Preparation(query=_REPRESENT)
_CHINESE: Final = Preparation(query="为这个句子生成表示以用于检索相关文章：")


def _asks(name: str, document: str, query: str) -> Preparation:
    """The preparation of a model whose request has a field for document or query."""
    return Preparation(document_parameters=fields(**{name: document}), query_parameters=fields(**{name: query}))


# The longest matching name wins.
PREFIXES: Final[tuple[PrefixRow, ...]] = (
    PrefixRow("nomic-embed-text", _NOMIC, "model cards of v1, v1.5, v2-moe: task instruction prefix"),
    PrefixRow("modernbert-embed", _NOMIC, "model card of modernbert-embed-base"),
    PrefixRow("nomic-embed-code", Preparation(query="Represent this query for searching relevant code: "), "model card"),
    PrefixRow("e5-small", _E5, "model cards of e5, e5-v2 and multilingual-e5"),
    PrefixRow("e5-base", _E5, "model cards of e5, e5-v2 and multilingual-e5"),
    PrefixRow("e5-large", _E5, "model cards of e5, e5-v2 and multilingual-e5"),
    PrefixRow("e5-large-instruct", _INSTRUCT, "model card of multilingual-e5-large-instruct: one-sentence instruction"),
    PrefixRow("e5-mistral-7b-instruct", _INSTRUCT, "model card"),
    PrefixRow("bge-small", _SENTENCE, "model cards of bge en and bge en v1.5: query instruction"),
    PrefixRow("bge-base", _SENTENCE, "model cards of bge en and bge en v1.5: query instruction"),
    PrefixRow("bge-large", _SENTENCE, "model cards of bge en and bge en v1.5: query instruction"),
    PrefixRow("bge-small-zh", _CHINESE, "model cards of bge zh and bge zh v1.5: query instruction"),
    PrefixRow("bge-base-zh", _CHINESE, "model cards of bge zh and bge zh v1.5: query instruction"),
    PrefixRow("bge-large-zh", _CHINESE, "model cards of bge zh and bge zh v1.5: query instruction"),
    PrefixRow("bge-m3", _NONE, "model card: no instruction is needed"),
    PrefixRow("mxbai-embed-large", _SENTENCE, "model card of mxbai-embed-large-v1: the prompt of queries"),
    PrefixRow("mxbai-embed-xsmall", _NONE, "model card: no prompt"),
    PrefixRow("snowflake-arctic-embed", _SENTENCE, "model cards of v1 and m-v1.5: query prefix"),
    PrefixRow("snowflake-arctic-embed2", Preparation(query="query: "), "model cards of l-v2.0 and m-v2.0, under Ollama's name"),
    PrefixRow("snowflake-arctic-embed-l-v2", Preparation(query="query: "), "model card"),
    PrefixRow("snowflake-arctic-embed-m-v2", Preparation(query="query: "), "model card"),
    PrefixRow("qwen3-embedding", Preparation(query=f"Instruct: {_RETRIEVE}\nQuery:"), "model card: the prompt `query`"),
    PrefixRow("gte-qwen2", _INSTRUCT, "model card: get_detailed_instruct"),
    PrefixRow(
        "embeddinggemma",
        Preparation(document="title: none | text: ", query="task: search result | query: "),
        "model card: prompt instructions",
    ),
    PrefixRow("jina-embeddings-v3", _asks("task", "retrieval.passage", "retrieval.query"), "Jina API reference: task"),
    PrefixRow("jina-embeddings-v4", _asks("task", "retrieval.passage", "retrieval.query"), "Jina API reference: task"),
    PrefixRow("voyage", _asks("input_type", "document", "query"), "Voyage API reference: input_type"),
    PrefixRow("embed-english-v3", _asks("input_type", "search_document", "search_query"), "Cohere API reference: input_type"),
    PrefixRow("embed-english-light-v3", _asks("input_type", "search_document", "search_query"), "the same"),
    PrefixRow("embed-multilingual-v3", _asks("input_type", "search_document", "search_query"), "the same"),
    PrefixRow("embed-multilingual-light-v3", _asks("input_type", "search_document", "search_query"), "the same"),
    PrefixRow("embed-v4", _asks("input_type", "search_document", "search_query"), "the same"),
    PrefixRow("nv-embedqa", _asks("input_type", "passage", "query"), "NVIDIA NIM API reference: input_type"),
)


def known_preparation(provider: str, name: str) -> Preparation:
    """The known preparation for a model's name, ignoring registry, publisher, tag and case."""
    bare = bare_name(name)
    fitting = (row for row in PREFIXES if re.search(rf"(?:^|-){re.escape(row.name)}(?![a-z])", bare))
    best = max(fitting, key=lambda row: len(row.name), default=None)
    if best is None or (best.preparation.query_parameters and provider not in WITH_PARAMETERS):
        return Preparation()
    return best.preparation
