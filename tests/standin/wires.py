"""The two wire formats: what a request asks for, and the body that answers it.

Sources: OpenAI API reference (embeddings: create); Ollama docs/api.md (Generate Embeddings).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pybase64 import b64encode

from .vectors import tokens_of


@dataclass(frozen=True)
class Ask:
    """One request for embeddings, whichever format it came in. `dimensions` is None when it names none."""

    wire: str
    model: str
    texts: list[str]
    dimensions: int | None
    base64: bool
    truncate: bool = False

    @property
    def tokens(self) -> int:
        return sum(map(tokens_of, self.texts))


class BadRequest(Exception):
    """The request cannot be answered: a 400 with this message; `param` as OpenAI names it."""

    def __init__(self, message: str, param: str = "input") -> None:
        super().__init__(message)
        self.param = param


def ask_of(wire: str, body: bytes) -> Ask:
    """Raises BadRequest for what a real server refuses."""
    try:
        wish = json.loads(body)
    except ValueError:
        raise BadRequest("the body is not JSON", "body") from None
    given = wish.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest("'$.input' is invalid")
    if "model" not in wish:
        raise BadRequest("you must provide a model parameter", "model")
    base64 = wire == "openai" and wish.get("encoding_format") == "base64"
    truncate = wire == "ollama" and wish.get("truncate", True)  # Ollama cuts long texts unless told not to
    return Ask(wire, wish["model"], texts, _dimensions(wire, wish), base64, truncate)


def _dimensions(wire: str, wish: dict[str, Any]) -> int | None:
    dimensions = wish.get("dimensions")
    if dimensions is not None and wire == "openai" and not wish["model"].startswith("text-embedding-3-"):
        raise BadRequest("This model does not support specifying dimensions.", "dimensions")
    return None if dimensions is None else int(dimensions)


def answer_body(ask: Ask, vectors: list[np.ndarray], *, twist: str | None) -> bytes:
    """The body of a good answer, or of one spoilt the way `twist` says."""
    if ask.wire == "ollama":
        embeddings = [vector.tolist() for vector in vectors]
        answer = {"model": ask.model, "embeddings": embeddings, "total_duration": 1, "load_duration": 1}
        return _dumped(answer if twist == "no_usage" else answer | {"prompt_eval_count": ask.tokens})
    answer: dict[str, Any] = {"object": "list", "model": ask.model}
    if twist != "no_usage":
        answer["usage"] = {"prompt_tokens": ask.tokens, "total_tokens": ask.tokens}
    # The rest by hand: json would look at every one of megabytes of characters that need no escape.
    places = _places(len(vectors), twist)
    data = [
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _vector(vectors[order], ask, twist))
        for order, index in zip(places.order, places.index, strict=True)
    ]
    return b'%b,"data":[%b]}' % (_dumped(answer)[:-1], b",".join(data))


def _vector(vector: np.ndarray, ask: Ask, twist: str | None) -> bytes:
    if ask.base64 and twist != "float_lists":
        return b'"%b"' % b64encode(vector.data)
    return _dumped(vector.tolist())


class Places(NamedTuple):
    """In which order the vectors are sent, and which index each is said to have."""

    order: Sequence[int]
    index: Sequence[int]


def _places(count: int, twist: str | None) -> Places:
    order = list(range(count))
    if twist == "shuffled":
        return Places(order[::-1], order[::-1])
    if twist == "duplicate_index":
        return Places(order, [*order[:-1], 0 if count > 1 else 1])
    return Places(order, order)


def error_body(wire: str, message: str, *, code: str | None = None, param: str | None = None) -> bytes:
    if wire == "ollama":
        return _dumped({"error": message})
    return _dumped({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})


def _dumped(answer: Any) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
