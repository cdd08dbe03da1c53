"""The known limits of providers and models.

Each row names the source of its numbers. A model without a row gets the conservative row of its provider.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from ..decide.tokens import estimate_tokens
from ..model import Model
from . import Limits

__all__ = ["CAUTIOUS", "INPUT_TOKENS", "LIMITS", "InputRow", "LimitsRow", "bare_name", "estimate_tokens", "limits_for"]


class LimitsRow(NamedTuple):
    """Limits of one request to `provider`. `source`: where the numbers are documented. `max_input_tokens`: for models that are not in
    `INPUT_TOKENS`."""

    provider: str
    limits: Limits
    source: str


class InputRow(NamedTuple):
    """The limit of one text for models whose names begin with `prefix`, in tokens of their vocabularies."""

    prefix: str
    max_tokens: int
    source: str


_OPENAI_SOURCE: Final = "OpenAI API reference, embeddings: 2,048 inputs, 300,000 tokens a request; 8,191 an input (guide)"
_OWN_CHOICE: Final = "own choice: one request stays short enough for a local server to answer within the time-out"

LIMITS: Final[tuple[LimitsRow, ...]] = (
    LimitsRow(
        "openai", Limits(2_048, 300_000, 8_191), f"{_OPENAI_SOURCE}; assumed for compatible servers, which teach their own"
    ),
    LimitsRow("ollama", Limits(256, 100_000, 2_048), f"Ollama FAQ: num_ctx; {_OWN_CHOICE}"),
    LimitsRow("sentence-transformers", Limits(256, 100_000, 256), f"all-MiniLM-L6-v2 card: 256 word pieces; {_OWN_CHOICE}"),
    LimitsRow("local", Limits(64, 16_000, 256), f"all-MiniLM-L6-v2 card: 256 word pieces; {_OWN_CHOICE}"),
    LimitsRow("hashing", Limits(2_048, 2_000_000, 4_096), "own choice: one vector of more words tells them apart badly"),
)

# Matched against the name without publisher ("BAAI/bge-m3") and tag ("bge-m3:latest"), in lower case. The longest prefix wins.
INPUT_TOKENS: Final[tuple[InputRow, ...]] = (
    InputRow("text-embedding-3-", 8_191, "OpenAI guide, embeddings"),
    InputRow("text-embedding-ada-002", 8_191, "OpenAI guide, embeddings"),
    InputRow("nomic-embed-text", 2_048, "Ollama library, nomic-embed-text: num_ctx 2048"),
    InputRow("nomic-embed-text-v2-moe", 512, "model card: maximum sequence length 512"),
    InputRow("all-minilm", 256, "model card of all-MiniLM-L6-v2: 256 word pieces; Ollama library: context length 256"),
    InputRow("all-mpnet-base", 384, "model card: 384 word pieces"),
    InputRow("paraphrase-multilingual", 128, "model cards: 128 word pieces"),
    InputRow("mxbai-embed-large", 512, "model card: 512"),
    InputRow("bge-", 512, "model cards of bge small, base and large: 512"),
    InputRow("bge-m3", 8_192, "model card: 8192"),
    InputRow("e5-", 512, "model cards: 512"),
    InputRow("multilingual-e5-", 512, "model cards: 512"),
    InputRow("gte-", 512, "model cards of gte small, base and large: 512"),
    InputRow("gte-qwen2", 32_000, "model card: 32k"),
    InputRow("snowflake-arctic-embed", 512, "model cards: 512"),
    InputRow("snowflake-arctic-embed2", 8_192, "Ollama library: 8192"),
    InputRow("snowflake-arctic-embed-l-v2", 8_192, "model card: 8192"),
    InputRow("snowflake-arctic-embed-m-v2", 8_192, "model card: 8192"),
    InputRow("granite-embedding", 512, "model cards: 512"),
    InputRow("embeddinggemma", 2_048, "model card: 2048"),
    InputRow("qwen3-embedding", 32_000, "model card: 32k"),
    InputRow("jina-embeddings-v2", 8_192, "model card: 8192"),
    InputRow("jina-embeddings-v3", 8_192, "model card: 8192"),
    InputRow("mistral-embed", 8_192, "Mistral documentation, embeddings: 8k"),
    InputRow("embed-english-v3", 512, "Cohere documentation: 512"),
    InputRow("embed-multilingual-v3", 512, "Cohere documentation: 512"),
    InputRow("gemini-embedding", 2_048, "Gemini API, embeddings: 2,048"),
    InputRow("text-embedding-004", 2_048, "Gemini API, embeddings: 2,048"),
    InputRow("text-embedding-v3", 8_192, "DashScope documentation: 8,192"),
    InputRow("text-embedding-v4", 8_192, "DashScope documentation: 8,192"),
    InputRow("hashing-", 4_096, "own choice: one vector of more words tells them apart badly"),
)

CAUTIOUS: Final = Limits(max_inputs=64, max_tokens=16_000, max_input_tokens=512)

# Share of the documented limit that is used, because estimates differ from real counts by up to half. Exceeding a limit costs requests:
# batches are halved, texts cut.
INPUT_MARGIN: Final = 0.5


def limits_for(model: Model, max_input_tokens: int = 0) -> Limits:
    """The limits of a model in estimated tokens: its provider's, with the text limit of the model's row if there is one.

    `max_input_tokens`: the operator's text limit, 0 for none. Half of it, or of the table's value, is used, because it is compared with an estimate.
    """
    limits = next((row.limits for row in LIMITS if row.provider == model.provider), CAUTIOUS)
    longest = max_input_tokens or _longest(model.name) or limits.max_input_tokens
    return replace(limits, max_tokens=max(limits.max_tokens, longest), max_input_tokens=max(1, int(longest * INPUT_MARGIN)))


def bare_name(name: str) -> str:
    """The model's name without registry, publisher, folders and tag, in lower case with hyphens: `nomic-embed-text-v1.5` for
    `hf.co/nomic-ai/nomic-embed-text-v1.5:Q8_0`."""
    return name.replace("\\", "/").rpartition("/")[2].partition(":")[0].lower().replace("_", "-")


def _longest(name: str) -> int:
    bare = bare_name(name)
    fitting = (row for row in INPUT_TOKENS if bare.startswith(row.prefix))
    best = max(fitting, key=lambda row: len(row.prefix), default=None)
    return best.max_tokens if best else 0
