"""Errors as `application/problem+json` (RFC 9457): what is wrong, in which field, and the next step. Never a traceback."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ..decide import refusals
from ..errors import (
    BrokerUnavailable,
    EmbedqError,
    InputError,
    InputRefused,
    NotFound,
    NotWell,
    ProviderBusy,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
)
from ..telemetry.logs import request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
# Deadlock or serialization failure: PostgreSQL rolled this transaction back.
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
PLACES = ("body", "query", "path", "header")
# Where a field takes one value or a list, pydantic's location also names the shape that was tried.
SHAPE = re.compile(r"constrained-\w+|list\[.*\]")
WORDS = {
    400: "The body is not JSON, or has too many parts",
    401: "No token, or a wrong one",
    403: "The token may not do this, or another site's page asked",
    404: "There is no such article",
    409: "It exists already, or cannot be done now",
    410: "It was deleted since",
    412: "The article is not as it was read any more",
    405: "The path takes other methods; see Allow",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is of another kind than application/json",
    422: "The input is wrong",
    429: "More requests than the token's rate, or wrong tokens at the sign-in; see Retry-After",
    500: "A mistake of the service; its log says more under the request's id",
    503: "Something needed is away; see Retry-After",
}


class Wrong(BaseModel):
    """One field that is wrong."""

    field: str
    reason: str


class Problem(BaseModel):
    """Why a request was not done, and what to do next."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:embedq:input",
                    "title": "The input is wrong",
                    "status": 422,
                    "detail": "title and content are both empty",
                    "field": "content",
                    "next_step": "there must be something to embed",
                    "request_id": "3f0c…",
                    "errors": [],
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    next_step: str
    request_id: str
    errors: list[Wrong] = Field(default_factory=list)


class Refusal(Exception):
    """Raised by routes and middleware for errors of HTTP itself: tokens, preconditions, sizes."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        next_step: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail, self.next_step = status, kind, title, detail, next_step
        self.field, self.headers = field, dict(headers or {})


def answer(
    status: int,
    kind: str,
    title: str,
    detail: str,
    next_step: str,
    *,
    field: str | None = None,
    errors: Sequence[Wrong] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    told = Problem(
        type=f"urn:embedq:{kind}",
        title=title,
        status=status,
        detail=detail,
        field=field,
        next_step=next_step,
        request_id=request_id.get(),
        errors=list(errors),
    )
    return JSONResponse(told.model_dump(), status, dict(headers or {}), MEDIA_TYPE)


def of_refusal(refused: Refusal) -> JSONResponse:
    return answer(
        refused.status,
        refused.kind,
        refused.title,
        refused.detail,
        refused.next_step,
        field=refused.field,
        headers=refused.headers,
    )


def of_error(error: EmbedqError) -> JSONResponse:
    """An error of ours in HTTP's words; the hint is the next step."""
    detail, hint = str(error), error.hint
    match error:
        case InputError() if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            taken = f"an article with this {error.field} exists already"
            return answer(409, "conflict", "It exists already", taken, hint, field=error.field)
        case InputError():
            return answer(422, "input", "The input is wrong", detail, hint, field=error.field)
        case InputRefused():
            return answer(422, "refused", "The provider refuses this text", detail, hint, field="query")
        case NotFound():
            return answer(404, "not-found", "There is no such thing", detail, "check the id and the tenant_id")
        case NotWell():
            return answer(409, "not-now", "This cannot be done now", detail, hint)
        case ProviderBusy():
            return _later("provider-busy", "The provider does not answer", detail, hint, error.retry_after_s)
        case StoreRefused():
            log.error("%s; next: %s", error, hint)
            return _later("database-refuses", "The database refuses", "PostgreSQL refuses what the service needs", hint)
        case StoreMissing():
            log.error("%s; next: %s", error, hint)
            step = "`embedq db upgrade` makes it (after an uninstall: `embedq restore FILE` as well)"
            return _later(
                "database-not-set-up", "embedq is not set up", "PostgreSQL answers, and embedq's schema is not there", step
            )
        case StoreUnavailable():
            step = "try again; a create with its Idempotency-Key is done once, however often it is tried"
            return _later("database-away", "The database cannot be reached", "PostgreSQL did not answer", step)
        case BrokerUnavailable():
            return _later("broker-away", "The broker cannot be reached", "the broker did not answer", hint)
        case _:
            log.error("%s; next: %s", error, hint)
            return _later("not-well", "The service is not set up rightly", type(error).__name__, "the service's log says more")


def _later(kind: str, title: str, detail: str, next_step: str, after_s: float | None = None) -> JSONResponse:
    wait = max(1, math.ceil(after_s)) if after_s else RETRY_AFTER_S
    return answer(503, kind, title, detail, next_step, headers={"Retry-After": str(wait)})


def of_validation(wrong: RequestValidationError) -> JSONResponse:
    """Validation errors. The values are not repeated, because they may be secret."""
    found = [Wrong(field=_field(error["loc"]), reason=_reason(error)) for error in wrong.errors()][:20]
    first = found[0] if found else Wrong(field="body", reason="cannot be understood")
    return answer(
        422,
        "input",
        "The input is wrong",
        f"{first.field}: {first.reason}",
        "correct it; /docs shows what is expected",
        field=first.field,
        errors=found,
    )


def _field(location: Sequence[Any]) -> str:
    parts = list(location[1:] if location and location[0] in PLACES and len(location) > 1 else location)
    name = ""
    for part in parts:
        if isinstance(part, str) and SHAPE.fullmatch(part):
            continue
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name.encode("utf-8", "replace").decode()[:200]


def _reason(error: Mapping[str, Any]) -> str:
    return str(error.get("msg", "is wrong")).encode("utf-8", "replace").decode()[:300]


def of_http(error: HTTPException) -> JSONResponse:
    titles = {404: "There is no such path", 405: "This path does not take that method", 400: "The body cannot be understood"}
    title = titles.get(error.status_code, "The request was refused")
    return answer(
        error.status_code, "http", title, str(error.detail), "/docs lists the paths and what they take", headers=error.headers
    )


async def _refused(_: Request, error: Exception) -> JSONResponse:
    match error:
        case Refusal():
            return of_refusal(error)
        case EmbedqError():
            return of_error(error)
        case RequestValidationError():
            return of_validation(error)
        case HTTPException():
            return of_http(error)
        case _ if isinstance(error, BUSY):
            log.warning("refused: %s", type(error).__name__)
            return _later(
                "busy", "Somebody else is at it", "another transaction holds what this needs; nothing was written", "try again"
            )
        case _:
            raise error


def of_any(error: Exception) -> JSONResponse:
    """What PostgreSQL, the broker or the operating system refuses in embedq's words; everything else as an internal error."""
    refused = refusals.of_error(error)
    return unexpected(error) if refused is None else of_error(refused)


def unexpected(error: Exception) -> JSONResponse:
    """An internal error: the log has the traceback with the request's id, the answer has the id."""
    log.error("unexpected: %s", type(error).__name__, exc_info=error)
    return answer(
        500,
        "unexpected",
        "Something unexpected happened",
        "the service made a mistake",
        "report the request_id; its log has the rest",
    )


def install(app: FastAPI) -> None:
    for kind in (Refusal, EmbedqError, RequestValidationError, HTTPException, *BUSY):
        app.add_exception_handler(kind, _refused)


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that only this path may answer with; `document` adds those that every path has."""
    return {status: {"description": WORDS[status]} for status in statuses}
