"""Reads and checks what a provider returned: nothing leaves here that could be stored as a wrong vector (SPEC G4).

jiter (which the openai package brings) and pybase64 read an answer ten times faster than the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import jiter
import numpy as np
from pybase64 import b64decode

from ..errors import Fault
from ..model import Model
from .faults import MAX_READ, Cause, cause_of_status, fault
from .waits import retry_after_s

_LITTLE_ENDIAN: Final = np.dtype("<f4")


def answered(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str | None]
) -> dict[str, Any]:
    """The JSON object of a good answer. Raises the fault that the status, or an error in the body, stands for."""
    if status != 200:
        raise fault_of_answer(provider, status, headers, body, secrets)
    try:
        found = jiter.from_json(body)
    except ValueError:
        found = None
    if found is None:
        raise fault(provider, _cause_of_nonsense(body), _beginning(body), secrets=secrets)
    if not isinstance(found, dict):
        raise fault(provider, Cause.MALFORMED, f"a JSON {type(found).__name__} where an object belongs", secrets=secrets)
    if found.get("error"):
        raise fault_of_answer(provider, status, headers, body, secrets)
    return found


def fault_of_answer(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str | None]
) -> Fault:
    """The fault of an answer that is not vectors. An error sent with status 200 may carry the real status as its code."""
    code, param, message = _error_in(body)
    if status == 200:
        status = int(code) if code is not None and code.isdecimal() and 400 <= int(code) <= 599 else 500
    cause = cause_of_status(status, code=code, param=param, message=message)
    wait_s = retry_after_s({name.lower(): value for name, value in headers.items()}, datetime.now(UTC))
    return fault(provider, cause, f"HTTP {status}: {message}".rstrip(": "), retry_after_s=wait_s, secrets=secrets)


def _error_in(body: bytes) -> tuple[str | None, str | None, str]:
    """code, param and message of an error body: OpenAI's {"error": {…}}, Ollama's {"error": "…"}, FastAPI's {"detail": …}."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None, None, _beginning(body)
    error = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return None, None, str(error)
    code, param = error.get("code") or error.get("type"), error.get("param")
    message = error.get("message") or error.get("detail") or ""
    return _text(code), _text(param), message if isinstance(message, str) else json.dumps(message)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _cause_of_nonsense(body: bytes) -> Cause:
    start = body.lstrip()[:1]
    return Cause.MALFORMED if start in (b"{", b"[") else Cause.NOT_JSON


def _beginning(body: bytes) -> str:
    return body[: 5 * MAX_READ].decode("utf-8", "replace")


def in_order(provider: str, data: object, count: int) -> list[object]:
    """The `embedding` of every datum of an OpenAI answer, by `index`. Raises unless the indices are 0 to count-1, each once."""
    if not isinstance(data, list) or not all(isinstance(datum, dict) and "embedding" in datum for datum in data):
        raise fault(provider, Cause.MALFORMED, "`data` is not a list of embeddings")
    if len(data) != count:
        raise wrong_count(provider, count, len(data))
    found = {datum["index"]: datum.pop("embedding") for datum in data if isinstance(datum.get("index"), int)}
    if found.keys() != set(range(count)):
        raise fault(provider, Cause.WRONG_ORDER, f"{count} texts sent, {len(found)} different indices returned")
    return [found[position] for position in range(count)]


def wrong_count(provider: str, sent: int, returned: int) -> Fault:
    return fault(provider, Cause.WRONG_COUNT, f"{sent} texts sent, {returned} vectors returned")


def matrix(provider: str, embeddings: list[object], model: Model) -> np.ndarray:
    """Base64 strings (little-endian float32) or lists of numbers as one array, shape (len(embeddings), dimensions).

    What was read is let go at once, from the list too: an answer has megabytes, and every thread holds one.
    """
    vectors = np.empty((len(embeddings), model.dimensions), dtype=np.float32)
    for row in range(len(embeddings)):
        vector = _decoded(provider, embeddings[row])
        embeddings[row] = None
        if vector.shape != (model.dimensions,):
            raise _wrong_dimensions(provider, model, len(vector))
        vectors[row] = vector
    return vectors


def _decoded(provider: str, embedding: object) -> np.ndarray:
    try:
        if isinstance(embedding, str):
            return np.frombuffer(b64decode(embedding, validate=True), dtype=_LITTLE_ENDIAN)
        if isinstance(embedding, list):
            return _from_numbers(embedding)
        reason = f"it is {type(embedding).__name__}"
    except (ValueError, TypeError) as error:  # binascii.Error is a ValueError
        reason = str(error)
    raise fault(provider, Cause.MALFORMED, f"an embedding cannot be read: {reason}")


def _from_numbers(numbers: list[object]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused as such
        vector = np.asarray(numbers, dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError(f"a list of {vector.ndim} levels")
    return vector


def _wrong_dimensions(provider: str, model: Model, returned: int) -> Fault:
    return fault(provider, Cause.WRONG_DIMENSIONS, f"{model.name} returned {returned}, {model.dimensions} are expected")


def checked(vectors: np.ndarray, count: int, model: Model) -> np.ndarray:
    """The vectors as float32, once count, dimensions, finiteness and length are as they must be. Raises ProviderBusy."""
    if vectors.ndim != 2 or len(vectors) != count:
        raise wrong_count(model.provider, count, len(vectors) if vectors.ndim else 0)
    if vectors.shape[1] != model.dimensions:
        raise _wrong_dimensions(model.provider, model, vectors.shape[1])
    vectors = vectors.astype(np.float32, copy=False)
    # Squares in float64: in float32 they overflow for large vectors and vanish for small ones.
    lengths = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    _refuse_first(model.provider, Cause.NOT_FINITE, ~np.isfinite(lengths))
    _refuse_first(model.provider, Cause.ZERO_VECTOR, lengths == 0.0)
    return vectors


def _refuse_first(provider: str, cause: Cause, bad: np.ndarray) -> None:
    if bad.any():
        raise fault(provider, cause, f"vector {int(bad.argmax())} of {len(bad)}")
