"""Parses and checks the answers of providers, so that no wrong vector is stored (G4).

jiter (which the openai package brings) and pybase64 read an answer ten times faster than the standard library.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import jiter
import numpy as np
from pybase64 import b64decode

from ..errors import Fault
from ..model import Model
from . import Embedded
from .faults import MAX_READ, OUR_PARAMETERS, Cause, cause_of_status, fault
from .limits import estimate_tokens
from .waits import retry_after_s

_LITTLE_ENDIAN: Final = np.dtype("<f4")


# Longest body that is read as an error.
LONGEST_ERROR: Final = 1_000_000
# In answers above this size, structural characters are counted before parsing, because `[],` takes 20 times its size when parsed; and how
# many are allowed.
UNCOUNTED: Final = 4_000_000
BRACKETS, BRACKETS_A_TEXT = b"[{", 8
QUOTES, QUOTES_A_TEXT = b'"', 64
BESIDE_THE_TEXTS: Final = 10_000
COUNTED_AT_ONCE: Final = 65_536
TOKENS_BESIDE_THE_TEXT: Final = 1_000
SAME_COSINE: Final = 0.999


def answered(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str | None], count: int = 1
) -> dict[str, Any]:
    """The JSON object of a good answer for `count` texts. Raises the fault that the status, or an error in the body, means."""
    if status != 200:
        raise fault_of_answer(provider, status, headers, body, secrets)
    found = _only_one(_parsed(body, count))
    if found is None:
        raise fault(provider, _cause_of_nonsense(body), _beginning(body), secrets=secrets)
    if not isinstance(found, dict):
        raise fault(provider, Cause.MALFORMED, f"a JSON {type(found).__name__} where an object belongs", secrets=secrets)
    if found.get("error"):
        raise fault_of_answer(provider, status, headers, body, secrets)
    return found


def _only_one(found: object) -> object:
    """Gemini's compatible server puts the object of an error into a list."""
    return found[0] if isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict) else found


def _parsed(body: bytes, count: int) -> object:
    """The parsed JSON; None if it is invalid, nested too deep, or has more values than an answer for `count` texts can have."""
    if len(body) > UNCOUNTED and (
        _occurrences(body, BRACKETS) > BESIDE_THE_TEXTS + count * BRACKETS_A_TEXT
        or _occurrences(body, QUOTES) > BESIDE_THE_TEXTS + count * QUOTES_A_TEXT
    ):
        return None
    try:
        return jiter.from_json(body)
    except ValueError:
        return None


def _occurrences(body: bytes, characters: bytes) -> int:
    """Counted with NumPy piece by piece, in a tenth of the time of bytes.count."""
    pieces = (np.frombuffer(body[at : at + COUNTED_AT_ONCE], np.uint8) for at in range(0, len(body), COUNTED_AT_ONCE))
    return sum(int(np.count_nonzero(piece == character)) for piece in pieces for character in characters)


def fault_of_answer(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str | None]
) -> Fault:
    """The fault of an answer without vectors. An error sent with status 200 may have the real status as its code."""
    headers = {name.lower(): value for name, value in headers.items()}
    code, param, message, wait_s = _error_in(body)
    if status == 200:
        status = int(code) if code in _ERRORS else 500
    cause = cause_of_status(status, code=code, param=param, message=message)
    said = _elsewhere(headers) if cause is Cause.REDIRECTED else message
    if param in OUR_PARAMETERS and str(param) not in said:
        said = f"{said} (parameter {param})"
    named_s = retry_after_s(headers, datetime.now(UTC))
    wait_s = wait_s if named_s is None else named_s
    return fault(provider, cause, f"HTTP {status}: {said}".rstrip(": "), retry_after_s=wait_s, secrets=secrets)


_ERRORS: Final = frozenset(map(str, range(400, 600)))


def _elsewhere(headers: Mapping[str, str]) -> str:
    """The target of a redirect, host and port only, because the rest of the address may hold a secret."""
    try:
        target = urlsplit(headers.get("location", "").strip())
        port = f":{target.port}" if target.port else ""
    except ValueError:
        return "to an address that is none"
    if not target.hostname:
        return "to another path of the same server"
    return f"to {target.scheme or 'the same scheme'}, host {target.hostname}{port}"


class _Error(NamedTuple):
    """A parsed error body. `wait_s`: seconds to wait, if the body names them."""

    code: str | None = None
    param: str | None = None
    message: str = ""
    wait_s: float | None = None


def _error_in(body: bytes) -> _Error:
    """The error in OpenAI's {"error": {…}}, Gemini's [{"error": {…}}], Ollama's {"error": "…"}, FastAPI's {"detail": …}, vLLM's {"message": …}."""
    try:
        found = _only_one(json.loads(body)) if len(body) <= LONGEST_ERROR else None
        if found is None:
            return _Error(message=_beginning(body))
        return _told(found.get("error", found) if isinstance(found, dict) else found)
    except (ValueError, RecursionError):
        return _Error(message=_beginning(body))


def _told(error: object) -> _Error:
    if not isinstance(error, dict):
        return _Error(message=str(error))
    code, param = error.get("code") or error.get("type"), error.get("param")
    message = error.get("message") or error.get("detail") or ""
    said = message if isinstance(message, str) else json.dumps(message)
    return _Error(_text(code), _text(param), said, _retry_delay_s(error.get("details")))


def _retry_delay_s(details: object) -> float | None:
    """Google's RetryInfo: {"retryDelay": "34s"}."""
    delays = [each.get("retryDelay") for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    delay = next((each for each in delays if isinstance(each, str)), None)
    return None if delay is None else retry_after_s({"retry-after": delay.removesuffix("s")}, datetime.now(UTC))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _cause_of_nonsense(body: bytes) -> Cause:
    start = body.lstrip()[:1]
    return Cause.MALFORMED if start in (b"{", b"[") else Cause.NOT_JSON


def _beginning(body: bytes) -> str:
    return body[: 5 * MAX_READ].decode("utf-8", "replace")


class Ordered(NamedTuple):
    """`indexed`: whether the answer had indices that assign embeddings to texts."""

    embeddings: list[object]
    indexed: bool


def in_order(provider: str, data: object, count: int) -> Ordered:
    """The `embedding` of every datum of an OpenAI answer, by `index`. Data without an index take the remaining places in order: some
    servers omit an index of 0, some all indices, and some send 0 for each. Raises unless the indices are a permutation of 0 to count-1."""
    if not isinstance(data, list) or not all(isinstance(datum, dict) and "embedding" in datum for datum in data):
        raise fault(provider, Cause.MALFORMED, "`data` is not a list of embeddings")
    if len(data) != count:
        raise wrong_count(provider, count, len(data))
    said = [datum["index"] if type(datum.get("index")) is int else None for datum in data]  # true is not an index
    indexed = count == 1 or any(said)
    free = iter(sorted(set(range(count)) - set(said)) if indexed else range(count))
    places = [next(free, None) if index is None or not indexed else index for index in said]
    found = dict(zip(places, (datum.pop("embedding") for datum in data), strict=True))
    if found.keys() != set(range(count)):
        raise fault(provider, Cause.WRONG_ORDER, f"{count} texts sent, {len(found)} different indices returned")
    return Ordered([found[position] for position in range(count)], indexed)


def wrong_count(provider: str, sent: int, returned: int) -> Fault:
    return fault(provider, Cause.WRONG_COUNT, f"{sent} texts sent, {returned} vectors returned")


def matrix(provider: str, embeddings: list[object], model: Model) -> np.ndarray:
    """Base64 strings (little-endian float32) or lists of numbers as one array, shape (len(embeddings), dimensions).

    Items are removed from the list as they are read, to free memory: an answer has megabytes, and every thread holds one.
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
    except (ValueError, TypeError, OverflowError) as error:  # binascii.Error is a ValueError
        reason = str(error)
    raise fault(provider, Cause.MALFORMED, f"an embedding cannot be read: {reason}")


def _from_numbers(numbers: list[Any]) -> np.ndarray:
    """Raises TypeError for strings, null and lists, which NumPy would convert to numbers, and for true and false."""
    vector = np.asarray(array("d", numbers))
    # true and false can only be among zeros and ones; checking the type of every number would take longer than parsing it.
    if ((vector == 0) | (vector == 1)).any() and bool in set(map(type, numbers)):
        raise TypeError("true and false are no numbers")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused below
        return vector.astype(np.float32)


def _wrong_dimensions(provider: str, model: Model, returned: int) -> Fault:
    return fault(provider, Cause.WRONG_DIMENSIONS, f"{model.name} returned {returned}, {model.dimensions} are expected")


def nothing(model: Model) -> Embedded:
    """The result for no texts."""
    return Embedded(np.empty((0, model.dimensions), dtype=np.float32), 0)


def checked(vectors: np.ndarray, count: int, model: Model) -> np.ndarray:
    """The vectors as float32 after checking count, dimensions, finiteness and norm. Raises ProviderBusy if a check fails."""
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


def similar(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two vectors can be of the same text by the same model: a cosine of more than 0.999. Servers compute in several precisions."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    return bool(first @ second > SAME_COSINE * np.linalg.norm(first) * np.linalg.norm(second))


def _refuse_first(provider: str, cause: Cause, bad: np.ndarray) -> None:
    if bad.any():
        raise fault(provider, cause, f"vector {int(bad.argmax())} of {len(bad)}")


def charged(said: object, texts: Sequence[str]) -> int:
    """The tokens that the provider reports; an estimate if it reports none, or more than the texts can have."""
    most = sum(len(text.encode("utf-8", "replace")) + TOKENS_BESIDE_THE_TEXT for text in texts)
    return said if type(said) is int and 0 < said <= most else sum(map(estimate_tokens, texts))
