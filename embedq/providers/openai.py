"""The `openai` provider: OpenAI, and any server that speaks its embeddings API.

Vectors are asked for in base64 and go from the bytes into one array; a server that sends lists of numbers anyway is
understood too. The SDK retries nothing: who waits, and for how long, is embedq's decision.
Source: OpenAI API reference, embeddings: create.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np
import openai

from ..errors import ConfigError, Fault
from ..model import Model
from . import Embedded, Limits
from .addresses import refuse_bad_address
from .answers import answered, checked, fault_of_answer, in_order, matrix
from .faults import Cause, cause_of_exception, fault
from .inputs import refuse_unembeddable
from .limits import estimate_tokens, limits_for
from .registry import ProviderSettings

NAME: Final = "openai"
OPENAI_URL: Final = "https://api.openai.com/v1"

# Only these models can be asked for fewer dimensions; others refuse the parameter.
_SHORTENABLE: Final = "text-embedding-3-"


class OpenAIProvider:
    """Embeds over HTTP. Safe to share between threads; make it in the process that uses it, after any fork."""

    def __init__(self, model: Model, settings: ProviderSettings) -> None:
        """Raises ConfigError when the key or the address is missing or cannot be one. Contacts nobody."""
        url = settings.openai_base_url or OPENAI_URL
        refuse_bad_address("OPENAI_BASE_URL", url)
        self.model = model
        self.limits: Limits = limits_for(model)
        self._secrets = (settings.openai_api_key,)
        # One answer at a time: the interpreter's lock allows no more anyway, and what is between bytes and vectors is larger than both.
        self._reading = threading.Lock()
        self._client = openai.OpenAI(
            api_key=_usable_key(settings),
            admin_api_key="",  # or the SDK would look for one in the environment
            base_url=url,
            max_retries=0,
            timeout=openai.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
        )

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.model})"

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order, shape (len(texts), dimensions), float32. `tokens` as charged, else estimated.

        Raises ProviderBusy when the same call may succeed later, InputRefused when not.
        """
        refuse_unembeddable(texts)
        if not texts:
            return Embedded(np.empty((0, self.model.dimensions), dtype=np.float32), 0)
        status, headers, body = self._post(texts)
        with self._reading:
            answer = answered(NAME, status, headers, body, self._secrets)
            del body  # four megabytes that a thread need not hold while it makes vectors of them
            vectors = matrix(NAME, in_order(NAME, answer.get("data"), len(texts)), self.model)
        return Embedded(checked(vectors, len(texts), self.model), _tokens(answer.get("usage"), texts))

    def close(self) -> None:
        """Give back connections. Safe to call twice."""
        self._client.close()

    def _post(self, texts: Sequence[str]) -> tuple[int, dict[str, str], bytes]:
        # The fault is raised outside `except`, so that no traceback shows the SDK's error, which quotes the server.
        try:
            raw = self._client.embeddings.with_raw_response.create(
                input=[],
                # The SDK walks through `input` text by text; what is in here goes out as it is, in its place.
                extra_body={"input": list(texts)},
                model=self.model.name,
                encoding_format="base64",
                dimensions=self.model.dimensions if self.model.name.startswith(_SHORTENABLE) else openai.omit,
            )
            return raw.http_response.status_code, dict(raw.http_response.headers), raw.http_response.content
        except Exception as error:
            trouble = self._fault_of(error)
            if trouble is None:
                raise
        raise trouble

    def _fault_of(self, error: Exception) -> Fault | None:
        if isinstance(error, openai.APIStatusError):
            answer = error.response
            return fault_of_answer(NAME, answer.status_code, answer.headers, answer.content, self._secrets)
        cause = cause_of_exception(error)
        if cause is None and isinstance(error, openai.OpenAIError):
            cause = Cause.MALFORMED
        return fault(NAME, cause, _words(error), secrets=self._secrets) if cause else None


def _words(error: BaseException) -> str:
    """The transport's own words say more than the SDK's "Connection error."."""
    root = error.__cause__ or error
    return f"{type(root).__name__}: {root}".rstrip(": ")


def _usable_key(settings: ProviderSettings) -> str:
    key = (settings.openai_api_key or "").strip()
    if not key and settings.openai_base_url is None:
        raise ConfigError("OPENAI_API_KEY is not set", hint="set it, or OPENAI_BASE_URL for a server that needs no key")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            "OPENAI_API_KEY has characters that no header can carry", hint="copy the key again, without quotes or line ends"
        )
    return key or "none"  # the SDK insists on one; servers without keys ignore it


def _tokens(usage: object, texts: Sequence[str]) -> int:
    charged = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return charged if isinstance(charged, int) and charged > 0 else sum(map(estimate_tokens, texts))
