"""The `ollama` provider, by Ollama's own API.

`truncate` is off: Ollama would otherwise cut a long text in silence and return the vector of its beginning. A text that
does not fit is refused, and the operator sees which.
Source: Ollama docs/api.md, "Generate Embeddings" (POST /api/embed).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import httpx
import numpy as np

from ..model import Model
from . import Embedded, Limits
from .addresses import refuse_bad_address
from .answers import answered, checked, matrix, wrong_count
from .faults import Cause, cause_of_exception, fault
from .inputs import refuse_unembeddable
from .limits import estimate_tokens, limits_for
from .registry import ProviderSettings

NAME: Final = "ollama"

# Models made so that the beginning of a vector is a vector too; Ollama shortens theirs when asked.
_SHORTENABLE: Final = ("nomic-embed-text", "embeddinggemma", "qwen3-embedding", "snowflake-arctic-embed2")


class OllamaProvider:
    """Embeds over HTTP. Safe to share between threads; make it in the process that uses it, after any fork."""

    def __init__(self, model: Model, settings: ProviderSettings) -> None:
        """Raises ConfigError when OLLAMA_BASE_URL is not an http address. Contacts nobody."""
        refuse_bad_address("OLLAMA_BASE_URL", settings.ollama_base_url)
        url = httpx.URL(settings.ollama_base_url)
        self.model = model
        self.limits: Limits = limits_for(model)
        self._secrets = (url.password,)
        # One answer at a time: the interpreter's lock allows no more anyway, and what is between bytes and vectors is larger than both.
        self._reading = threading.Lock()
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s))

    def __repr__(self) -> str:
        return f"OllamaProvider({self.model})"

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order, shape (len(texts), dimensions), float32. `tokens` as counted, else estimated.

        Raises ProviderBusy when the same call may succeed later, InputRefused when not.
        """
        refuse_unembeddable(texts)
        if not texts:
            return Embedded(np.empty((0, self.model.dimensions), dtype=np.float32), 0)
        response = self._post(texts)
        with self._reading:
            answer = answered(NAME, response.status_code, response.headers, response.content, self._secrets)
            vectors = matrix(NAME, _embeddings(answer, len(texts)), self.model)
        return Embedded(checked(vectors, len(texts), self.model), _tokens(answer, texts))

    def close(self) -> None:
        """Give back connections. Safe to call twice."""
        self._client.close()

    def _post(self, texts: Sequence[str]) -> httpx.Response:
        # The fault is raised outside `except`, so that no traceback shows the transport's error beside it.
        try:
            return self._client.post("api/embed", json=self._request(texts))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            cause = cause_of_exception(error) or Cause.UNREACHABLE
            trouble = fault(NAME, cause, f"{type(error).__name__}: {error}".rstrip(": "), secrets=self._secrets)
        raise trouble

    def _request(self, texts: Sequence[str]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model.name, "input": list(texts), "truncate": False}
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


def _tokens(answer: dict[str, Any], texts: Sequence[str]) -> int:
    counted = answer.get("prompt_eval_count")
    return counted if isinstance(counted, int) and counted > 0 else sum(map(estimate_tokens, texts))
