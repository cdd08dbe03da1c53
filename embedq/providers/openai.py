"""The `openai` provider: OpenAI, and any server with the same embeddings API.

Vectors are requested in base64 and decoded into one array; lists of numbers are accepted too. OpenAI's SDK is not used: requests need the
limits of `exchange`, and importing the SDK takes a second and 30 MB.
Source: OpenAI API reference, embeddings: create; authentication (organization and project).
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, cast
from urllib.parse import urlsplit

import numpy as np

from ..errors import ConfigError, Fault, InputRefused
from ..model import Model
from . import Embedded, Limits, ProviderSettings
from .answers import answered, charged, checked, in_order, matrix, nothing, similar
from .dialect import Dialect, learnt, smaller
from .exchange import Answer, Exchange, most_bytes
from .faults import Cause, fault
from .inputs import refuse_unembeddable
from .limits import estimate_tokens, limits_for

NAME: Final = "openai"
OPENAI_URL: Final = "https://api.openai.com/v1"

# Only these models accept the parameter `dimensions`.
_SHORTENABLE: Final = "text-embedding-3-"

# A request: path, body, and size limit of the answer in bytes.
Question = tuple[str, dict[str, Any], int]
# A generator that yields requests, is sent the answer (or thrown the fault), and returns the vectors; used by threads and event loops alike.
Conversation = Generator[Question, Answer, Embedded]


class OpenAIProvider:
    """Embeds over HTTP. Safe to share between threads; make it in the process that uses it, after any fork.

    `limits` and `dialect`: the current knowledge about the server; immutable values that threads replace.
    """

    def __init__(self, model: Model, settings: ProviderSettings) -> None:
        """Raises ConfigError if the key or the address is missing or invalid. Opens no connection."""
        self.model, self.parameters = model, settings.parameters
        self.limits: Limits = limits_for(model, settings.max_input_tokens)
        self.dialect = Dialect(dimensions=model.name.startswith(_SHORTENABLE))
        # Answers are parsed one at a time: the GIL allows no more anyway, and the intermediate data are larger than the bytes and the vectors.
        self._reading = threading.Lock()
        self._exchange = Exchange(
            NAME,
            "OPENAI_BASE_URL",
            settings.openai_base_url or OPENAI_URL,
            timeout_s=settings.timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
            headers=dict(_headers(settings)),
            secrets=(settings.openai_api_key, *settings.headers.values()),
        )

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.model})"

    def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector per text, in order, shape (len(texts), dimensions), float32. `tokens` as charged, else estimated.

        One request; more while the process does not know the server and it refuses parameters (`dialect`). Raises ProviderBusy when the same call
        may succeed later, InputRefused when not.
        """
        refuse_unembeddable(texts)
        if not texts:
            return nothing(self.model)
        conversation = self._understood(texts)
        question = next(conversation)
        while True:
            try:
                raw: Answer | Fault = self._exchange.post(*question)
            except Fault as refused:
                raw = refused
            try:
                question = _told(conversation, raw)
            except StopIteration as done:
                return cast(Embedded, done.value)

    async def aembed(self, texts: Sequence[str]) -> Embedded:
        """As `embed`, without a thread."""
        refuse_unembeddable(texts)
        if not texts:
            return nothing(self.model)
        conversation = self._understood(texts)
        question = next(conversation)
        while True:
            try:
                raw: Answer | Fault = await self._exchange.apost(*question)
            except Fault as refused:
                raw = refused
            try:
                question = _told(conversation, raw)
            except StopIteration as done:
                return cast(Embedded, done.value)

    def _understood(self, texts: Sequence[str]) -> Conversation:
        """Try one dialect after the other until the server accepts one. Raises the first fault if none does."""
        dialect, first, tried = self.dialect, None, set[Dialect]()
        while True:
            tried.add(dialect)
            try:
                embedded = yield from self._asked(texts, dialect)
            except Fault as refused:
                following = learnt(dialect, refused)
                if following is None:
                    self._learn_size(texts, refused)
                    raise
                first, dialect = first or refused, following
            else:
                self.dialect = replace(dialect, in_order=self.dialect.in_order)
                return embedded
            if dialect in tried:
                raise first

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._exchange.close()

    async def aclose(self) -> None:
        """Close the connections of `aembed`. Safe to call twice."""
        await self._exchange.aclose()

    def _asked(self, texts: Sequence[str], dialect: Dialect) -> Conversation:
        raw = yield "embeddings", self._request(texts, dialect), most_bytes(len(texts), self.model.dimensions)
        with self._reading:
            answer = answered(NAME, *raw, self._exchange.secrets, len(texts))
            del raw  # free the answer (about 4 MB) before the vectors are made
            found = in_order(NAME, answer.get("data"), len(texts))
            vectors = checked(matrix(NAME, found.embeddings, self.model), len(texts), self.model)
        if not found.indexed and len(texts) > 1:
            yield from self._see_order(texts, vectors, dialect)
        return Embedded(vectors, _tokens(answer.get("usage"), texts))

    def _see_order(self, texts: Sequence[str], vectors: np.ndarray, dialect: Dialect) -> Generator[Question, Answer, None]:
        """If the server sends no indices, request the last text alone once, to verify the order. Raises ProviderBusy if the vectors are not
        in order."""
        last = next((place for place in range(len(texts) - 1, 0, -1) if texts[place] != texts[0]), 0)
        if self.dialect.in_order or last == 0:
            return
        alone = yield from self._asked([texts[last]], dialect)
        if not similar(alone.vectors[0], vectors[last]):
            raise fault(
                NAME, Cause.WRONG_ORDER, "its answer has no indices, and a text alone has another vector than in its place"
            )
        self.dialect = replace(self.dialect, in_order=True)

    def _learn_size(self, texts: Sequence[str], refused: Fault) -> None:
        if isinstance(refused, InputRefused):
            self.limits = smaller(self.limits, str(refused), len(texts), sum(map(estimate_tokens, texts)))

    def _request(self, texts: Sequence[str], dialect: Dialect) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model.name, "input": list(texts), **self.parameters}
        if dialect.encoding_format:
            request["encoding_format"] = dialect.encoding_format
        if dialect.dimensions:
            request["dimensions"] = self.model.dimensions
        return request


def _headers(settings: ProviderSettings) -> Iterator[tuple[str, str]]:
    key = _sendable("OPENAI_API_KEY", settings.openai_api_key)
    if not key and settings.openai_base_url is None:
        raise ConfigError("OPENAI_API_KEY is not set", hint="set it, or OPENAI_BASE_URL for a server that needs no key")
    if key:
        yield ("api-key", key) if _is_azure(settings.openai_base_url) else ("Authorization", f"Bearer {key}")
    if organization := _sendable("OPENAI_ORG_ID", settings.openai_organization):
        yield "OpenAI-Organization", organization
    if project := _sendable("OPENAI_PROJECT_ID", settings.openai_project):
        yield "OpenAI-Project", project
    yield from settings.headers.items()


def _is_azure(address: str | None) -> bool:
    """Whether the address is Azure's, which takes the key in a different header; recognised by the API version or the domain."""
    parts = urlsplit(address or "")
    return "api-version=" in parts.query or (parts.hostname or "").endswith(".azure.com")


def _sendable(setting: str, value: str | None) -> str:
    text = (value or "").strip()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ConfigError(
            f"{setting} has characters that no header can carry", hint="copy it again, without quotes or line ends"
        )
    return text


def _tokens(usage: object, texts: Sequence[str]) -> int:
    said = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return charged(said, texts)


def _told(conversation: Conversation, answer: Answer | Fault) -> Question:
    """The next request after this answer. Raises StopIteration with the vectors, or the final fault."""
    return conversation.throw(answer) if isinstance(answer, Fault) else conversation.send(answer)
