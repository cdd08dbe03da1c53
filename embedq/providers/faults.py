"""Classifies errors of providers as one of two faults. All rules are in one table.

`InputRefused`: the inputs are the cause. Everything else is `ProviderBusy`: no task is charged, the provider is paused. `ProviderBusy`
marks the input as suspect if it may be the cause (a 500, no answer, a malformed answer), so that the engine sends a harmless text before it
decides. `docs/reference/faults.rst` shows the same table; a test compares the two.

Sources: RFC 9110 (statuses, Retry-After), OpenAI API reference (error codes, x-ratelimit headers), Ollama docs/api.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from ..errors import Fault, InputRefused, ProviderBusy
from .secrets import mask

MAX_DETAIL: Final = 500
MAX_READ: Final = 100_000
LONG_WAIT_S: Final = 60.0


class Verdict(StrEnum):
    """The fault that a cause means."""

    REFUSED = "InputRefused"
    WAIT = "ProviderBusy"
    SUSPECT = "ProviderBusy, input suspect"
    CONFIGURE = "ProviderBusy, at least 60 s"


class Cause(StrEnum):
    """What happened; the values are shown to operators."""

    REFUSED = "refused the input"
    CREDENTIALS = "does not accept the credentials"
    QUOTA = "has no quota left for this account"
    NOT_FOUND = "does not know the model or the address"
    MISUSED = "does not take requests of this form"
    REDIRECTED = "sends its requests elsewhere"
    RATE_LIMITED = "asks for fewer requests"
    OVERLOADED = "is overloaded or being restarted"
    UNREACHABLE = "cannot be reached"
    NO_CONNECTION_IN_TIME = "took no connection in time"
    BROKEN = "failed inside"
    NO_ANSWER_IN_TIME = "did not answer in time"
    CUT_OFF = "broke off the answer"
    TOO_LARGE = "answered with more than was asked for"
    NOT_JSON = "did not answer in JSON"
    MALFORMED = "answered in a form that is not understood"
    WRONG_COUNT = "returned another number of vectors than texts were sent"
    WRONG_ORDER = "returned indices that are not each of 0 to n-1 once"
    NOT_FINITE = "returned a vector with NaN or infinity"
    ZERO_VECTOR = "returned a vector of length zero"
    WRONG_DIMENSIONS = "returned vectors of other dimensions than the model's"
    MODEL_FAILED = "failed while it computed"


class Row(NamedTuple):
    """One line of the table. `statuses` are HTTP's; `exceptions` are class names of httpcore, httpx and the standard library."""

    verdict: Verdict
    hint: str
    statuses: tuple[int, ...] = ()
    exceptions: tuple[str, ...] = ()


_VERSION: Final = "nothing was stored; check the provider's version"

TABLE: Final[dict[Cause, Row]] = {
    Cause.REFUSED: Row(Verdict.REFUSED, "shorten or correct the article's text, then retry its task", (400, 413, 422)),
    Cause.CREDENTIALS: Row(Verdict.CONFIGURE, "check the API key and what it may do; tasks wait meanwhile", (401, 403)),
    Cause.QUOTA: Row(Verdict.CONFIGURE, "check billing and the spending limit of the account; tasks wait meanwhile", (402,)),
    Cause.NOT_FOUND: Row(Verdict.CONFIGURE, "check EMBEDDING_MODEL and the base URL; Ollama: `ollama pull MODEL`", (404, 410)),
    Cause.MISUSED: Row(
        Verdict.CONFIGURE,
        "check the base URL, EMBEDDING_MODEL and EMBEDDING_DIMENSIONS",
        (405, 406, 411, 415, 431, 501, 505),
        ("UnsupportedProtocol", "InvalidURL", "LocalProtocolError", "TooManyRedirects"),
    ),
    Cause.REDIRECTED: Row(
        Verdict.CONFIGURE,
        "set OPENAI_BASE_URL or OLLAMA_BASE_URL to the final address; texts go to no server that a setting does not name",
        (300, 301, 302, 303, 304, 305, 307, 308),
    ),
    Cause.RATE_LIMITED: Row(Verdict.WAIT, "wait, or lower the rate: `embedq throttle`", (429,)),
    Cause.OVERLOADED: Row(Verdict.WAIT, "wait; see the provider's status page", (408, 409, 425, 502, 503, 504, 522, 524, 529)),
    Cause.UNREACHABLE: Row(
        Verdict.WAIT,
        "check the base URL, the network and that the server runs",
        (521, 523),
        ("ConnectError", "ProxyError", "ConnectionRefusedError", "gaierror"),
    ),
    Cause.NO_CONNECTION_IN_TIME: Row(
        Verdict.WAIT, "check the network, or lower the concurrency", (), ("ConnectTimeout", "WriteTimeout", "PoolTimeout")
    ),
    Cause.BROKEN: Row(Verdict.SUSPECT, "see the provider's log or status page; it is tried again", (500, 520)),
    Cause.NO_ANSWER_IN_TIME: Row(
        Verdict.SUSPECT, "lower EMBEDDING_BATCH_SIZE, or raise EMBEDDING_PROVIDER_TIMEOUT", (), ("ReadTimeout", "TimeoutError")
    ),
    Cause.CUT_OFF: Row(
        Verdict.SUSPECT,
        "see the log of the provider and of any proxy before it; it is tried again",
        (),
        (
            "RemoteProtocolError",
            "ReadError",
            "WriteError",
            "CloseError",
            "DecodingError",
            "ConnectionResetError",
            "BrokenPipeError",
        ),
    ),
    Cause.TOO_LARGE: Row(
        Verdict.CONFIGURE, "nothing was stored; check the base URL and EMBEDDING_DIMENSIONS: another service may be answering"
    ),
    Cause.NOT_JSON: Row(Verdict.SUSPECT, "check the base URL: a proxy or a web page may be answering"),
    Cause.MALFORMED: Row(Verdict.SUSPECT, _VERSION),
    Cause.WRONG_COUNT: Row(Verdict.SUSPECT, _VERSION),
    Cause.WRONG_ORDER: Row(Verdict.SUSPECT, _VERSION),
    Cause.NOT_FINITE: Row(Verdict.SUSPECT, "nothing was stored; see the provider's log"),
    Cause.ZERO_VECTOR: Row(Verdict.SUSPECT, "nothing was stored; see the provider's log"),
    Cause.WRONG_DIMENSIONS: Row(Verdict.CONFIGURE, "nothing was stored; set EMBEDDING_DIMENSIONS to what the model makes"),
    Cause.MODEL_FAILED: Row(Verdict.SUSPECT, "see the log; lower EMBEDDING_BATCH_SIZE if memory ran out"),
}

# The code in the body has precedence over the status: OpenAI sends 429 for an exhausted quota, some servers 400 for a wrong key.
CODES: Final[dict[str, Cause]] = {
    "insufficient_quota": Cause.QUOTA,
    "billing_hard_limit_reached": Cause.QUOTA,
    "billing_not_active": Cause.QUOTA,
    "account_deactivated": Cause.CREDENTIALS,
    "invalid_api_key": Cause.CREDENTIALS,
    "model_not_found": Cause.NOT_FOUND,
}

# A 400 about a parameter that embedq sets is caused by a setting, not by the article.
OUR_PARAMETERS: Final = frozenset({"model", "dimensions", "encoding_format", "truncate"})

# Messages of servers that send neither code nor param. Only beginnings are matched, because later parts may quote a text.
_BEGINNINGS: Final = (
    ("api key not valid", Cause.CREDENTIALS),
    ("incorrect api key", Cause.CREDENTIALS),
    ("invalid api key", Cause.CREDENTIALS),
    ("this model does not support embeddings", Cause.NOT_FOUND),
    ("unexpected endpoint or method", Cause.NOT_FOUND),
)

# Servers that answer 500, or an error with status 200, to inputs that they will never accept (llama.cpp, LM Studio); only beginnings, as above.
_REFUSALS: Final = re.compile(
    r"(?i)\s*(?:input \([0-9]+ tokens\) is too large|unexpected endpoint or method|the input length exceeds)"
)

_BY_STATUS: Final = {status: cause for cause, row in TABLE.items() for status in row.statuses}
_BY_EXCEPTION: Final = {name: cause for cause, row in TABLE.items() for name in row.exceptions}


def cause_of_status(status: int, *, code: str | None = None, param: str | None = None, message: str = "") -> Cause:
    """The cause for a status other than 200. `code`, `param` and `message` are from the error in the body, if there is one."""
    if code in CODES:
        return CODES[code]
    cause = _BY_STATUS.get(status)
    if cause is None:
        return Cause.BROKEN if status >= 500 else Cause.REDIRECTED if 300 <= status < 400 else Cause.MISUSED
    if cause is Cause.REFUSED or (cause is Cause.BROKEN and _REFUSALS.match(message)):
        return _cause_of_refusal(param, message.lower().lstrip())
    return cause


def _cause_of_refusal(param: str | None, message: str) -> Cause:
    if param in OUR_PARAMETERS:
        return Cause.MISUSED
    return next((cause for beginning, cause in _BEGINNINGS if message.startswith(beginning)), Cause.REFUSED)


def cause_of_exception(error: BaseException) -> Cause | None:
    """The cause for an exception of the transport, by the names of its class and bases, and of its __cause__."""
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_EXCEPTION:
            return _BY_EXCEPTION[kind.__name__]
    return cause_of_exception(error.__cause__) if error.__cause__ is not None else None


def fault(
    provider: str, cause: Cause, detail: str = "", *, retry_after_s: float | None = None, secrets: Iterable[str | None] = ()
) -> Fault:
    """The error to raise: names the provider, the cause and the provider's message, masked and cut to 500 characters."""
    said = _tidy(detail, secrets)
    made = _fault(cause, f"{provider} {cause}: {said}" if said else f"{provider} {cause}", retry_after_s)
    made.cause = cause
    return made


def _fault(cause: Cause, message: str, retry_after_s: float | None) -> Fault:
    row = TABLE[cause]
    match row.verdict:
        case Verdict.REFUSED:
            return InputRefused(message, hint=row.hint)
        case Verdict.WAIT:
            return ProviderBusy(message, hint=row.hint, retry_after_s=retry_after_s)
        case Verdict.SUSPECT:
            return ProviderBusy(message, hint=row.hint, retry_after_s=retry_after_s, suspect_input=True)
        case Verdict.CONFIGURE:
            return ProviderBusy(message, hint=row.hint, retry_after_s=max(LONG_WAIT_S, retry_after_s or 0.0))
        case _:
            assert_never(row.verdict)


def _tidy(detail: str, secrets: Iterable[str | None]) -> str:
    """The message on one line, without NUL and lone surrogates, which PostgreSQL refuses. Masked before it is cut, so that no partial key
    remains at the end."""
    if len(detail) > MAX_READ:
        words = detail[:MAX_READ].split()
        detail = " ".join(words[:-1] or words)  # drop the last word, which may be a partial key
    masked = mask(detail, secrets)
    writable = masked.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    line = " ".join(writable.split())
    return line if len(line) <= MAX_DETAIL else f"{line[: MAX_DETAIL - 1]}…"
