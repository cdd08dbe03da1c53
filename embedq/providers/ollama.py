"""The `ollama` provider, using Ollama's native API.

`truncate` is off, because Ollama would otherwise silently embed only the beginning of a long text. A text that is too long is refused.
Source: Ollama docs/api.md, "Generate Embeddings" (POST /api/embed).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from ..model import Model
from . import Embedded, Limits, ProviderSettings
from .answers import answered, charged, checked, matrix, nothing, wrong_count
from .exchange import Answer, Exchange, most_bytes
from .faults import Cause, fault
from .inputs import refuse_unembeddable
from .limits import limits_for

NAME: Final = "ollama"

# Models trained so that a vector can be shortened (Matryoshka); Ollama shortens it on request.
_SHORTENABLE: Final = ("nomic-embed-text", "embeddinggemma", "qwen3-embedding", "snowflake-arctic-embed2")


class OllamaProvider:
    """Embeds over HTTP. Safe to share between threads; make it in the process that uses it, after any fork."""

    def __init__(self, model: Model, settings: ProviderSettings) -> None:
        """Raises ConfigError if OLLAMA_BASE_URL is not an http address. Opens no connection."""
        self.model, self.parameters = model, settings.parameters
        self.limits: Limits = limits_for(model, settings.max_input_tokens)
        # Answers are parsed one at a time: the GIL allows no more anyway, and the intermediate data are larger than the bytes and the vectors.
        self._reading = threading.Lock()
        self._exchange = Exchange(
            NAME,
            "OLLAMA_BASE_URL",
            settings.ollama_base_url,
            timeout_s=settings.timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
            headers=settings.headers,
            secrets=settings.headers.values(),
        )

    def __repr__(self) -> str:
        return f"OllamaProvider({self.model})"

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order, shape (len(texts), dimensions), float32. `tokens` as counted, else estimated.

        Raises ProviderBusy when the same call may succeed later, InputRefused when not.
        """
        refuse_unembeddable(texts)
        return self._read(self._exchange.post(*self._question(texts)), texts) if texts else nothing(self.model)

    async def aembed(self, texts: Sequence[str]) -> Embedded:
        """As `embed`, without a thread."""
        refuse_unembeddable(texts)
        return self._read(await self._exchange.apost(*self._question(texts)), texts) if texts else nothing(self.model)

    def _question(self, texts: Sequence[str]) -> tuple[str, dict[str, Any], int]:
        return "api/embed", self._request(texts), most_bytes(len(texts), self.model.dimensions)

    def _read(self, raw: Answer, texts: Sequence[str]) -> Embedded:
        with self._reading:
            answer = answered(NAME, *raw, self._exchange.secrets, len(texts))
            del raw
            vectors = matrix(NAME, _embeddings(answer, len(texts)), self.model)
        return Embedded(checked(vectors, len(texts), self.model), charged(answer.get("prompt_eval_count"), texts))

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._exchange.close()

    async def aclose(self) -> None:
        """Close the connections of `aembed`. Safe to call twice."""
        await self._exchange.aclose()

    def _request(self, texts: Sequence[str]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model.name, "input": list(texts), "truncate": False, **self.parameters}
        if self.model.name.startswith(_SHORTENABLE):
            request["dimensions"] = self.model.dimensions
        return request


def _embeddings(answer: dict[str, Any], count: int) -> list[object]:
    found = answer.get("embeddings")
    if not isinstance(found, list):
        raise fault(NAME, Cause.MALFORMED, "`embeddings` is not a list")
    if len(found) != count:
        raise wrong_count(NAME, count, len(found))
    return found
