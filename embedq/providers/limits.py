"""What one request to a provider may hold, and how many tokens a text is likely to be.

A row says where its numbers come from; a model that no row knows gets the cautious row of its provider.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from ..decide.tokens import estimate_tokens
from ..model import Model
from . import Limits

__all__ = ["CAUTIOUS", "LIMITS", "LimitsRow", "estimate_tokens", "limits_for"]


class LimitsRow(NamedTuple):
    """Limits of the models of `provider` whose names begin with `prefix`. `source`: where the numbers are written."""

    provider: str
    prefix: str
    limits: Limits
    source: str


_OPENAI: Final = Limits(max_inputs=2_048, max_tokens=300_000, max_input_tokens=8_191)
_OPENAI_SOURCE: Final = "OpenAI API reference, embeddings: 2,048 inputs, 300,000 tokens a request; 8,191 an input (guide)"
_OWN_CHOICE: Final = "own choice: one request stays short enough for a local server to answer within the time-out"

LIMITS: Final[tuple[LimitsRow, ...]] = (
    LimitsRow("openai", "text-embedding-3-", _OPENAI, _OPENAI_SOURCE),
    LimitsRow("openai", "text-embedding-ada-002", _OPENAI, _OPENAI_SOURCE),
    LimitsRow("openai", "", Limits(2_048, 300_000, 8_191), f"{_OPENAI_SOURCE}; assumed for compatible servers"),
    LimitsRow("ollama", "nomic-embed-text", Limits(256, 100_000, 2_048), "Ollama library, nomic-embed-text: num_ctx 2048"),
    LimitsRow("ollama", "all-minilm", Limits(256, 100_000, 256), "Ollama library, all-minilm: context length 256"),
    LimitsRow("ollama", "mxbai-embed-large", Limits(256, 100_000, 512), "Ollama library, mxbai-embed-large: context 512"),
    LimitsRow("ollama", "bge-m3", Limits(256, 100_000, 8_192), "Ollama library, bge-m3: context length 8192"),
    LimitsRow("ollama", "snowflake-arctic-embed", Limits(256, 100_000, 512), "Ollama library, snowflake-arctic-embed: 512"),
    LimitsRow("ollama", "", Limits(256, 100_000, 2_048), f"Ollama FAQ: num_ctx; {_OWN_CHOICE}"),
    LimitsRow("sentence-transformers", "", Limits(256, 100_000, 256), f"all-MiniLM-L6-v2 card: 256 word pieces; {_OWN_CHOICE}"),
    LimitsRow("hashing", "", Limits(2_048, 2_000_000, 4_096), "own choice: one vector of more words tells them apart badly"),
)

CAUTIOUS: Final = Limits(max_inputs=64, max_tokens=16_000, max_input_tokens=512)

# Our estimate is low where a token is shorter than four bytes: about 3 in source code, 2 in Chinese, Japanese and long
# numbers. A batch that turns out too long is halved by the engine, but an input that does would be refused for good.
INPUT_MARGIN: Final = 0.5


def limits_for(model: Model) -> Limits:
    """The limits of a model, by its own row, else its provider's, else the cautious ones; in estimated tokens.

    `max_input_tokens` is half of what the table says, because it is compared with an estimate.
    """
    name = model.name.removesuffix(":latest")
    fitting = (row for row in LIMITS if row.provider == model.provider and name.startswith(row.prefix))
    best = max(fitting, key=lambda row: len(row.prefix), default=None)
    limits = best.limits if best else CAUTIOUS
    return replace(limits, max_input_tokens=int(limits.max_input_tokens * INPUT_MARGIN))
