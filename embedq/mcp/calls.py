"""One call of a tool: may this token, are the arguments right, and what came of it, said so that a model can go on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import anyio.to_thread
import psycopg
from pydantic import ValidationError

from ..addresses import hide
from ..decide.access import Principal, why_not
from ..decide.drafts import MAX_METADATA_DEPTH, check_characters
from ..errors import EmbedqError, InputError, NotFound, NotWell
from . import article_versions, articles, finding, operating
from .parts import Parts
from .tool import TOOLS, Gives, Progress, Takes, Tool

__all__ = [
    "TOOLS",
    "Refused",
    "article_versions",
    "articles",
    "as_text",
    "call",
    "finding",
    "in_thread",
    "open_to",
    "operating",
]

log = logging.getLogger(__name__)

T = TypeVar("T")
SHOWN = 500
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
LOOK_FOR_IT = "search_articles and list_articles show ids and slugs"


class Refused(Exception):
    """What a tool answers in place of its result. `next_step`: what to do now."""

    def __init__(self, why: str, next_step: str) -> None:
        super().__init__(why)
        self.why, self.next_step = why, next_step

    def __str__(self) -> str:
        return f"{hide(self.why)}\nnext: {hide(self.next_step)}"


def open_to(principal: Principal) -> list[Tool]:
    """The tools that this token may use, and so the ones that it is told of."""
    return [tool for tool in TOOLS.values() if why_not(principal, tool.need) is None]


async def call(parts: Parts, principal: Principal, name: str, arguments: Mapping[str, Any], progress: Progress) -> Gives:
    """Raises Refused, whatever goes wrong."""
    tool = TOOLS.get(name)
    if tool is None or tool not in open_to(principal):
        raise Refused(
            f"there is no tool {name[:100]!r} for the token {principal.name}", "tools/list names those that there are"
        )
    try:
        return await _run(tool, parts, principal, _taken(tool, arguments), progress)
    except Refused:
        raise
    except Exception as error:
        _refuse(error)


async def _run(tool: Tool, parts: Parts, principal: Principal, wanted: Takes, progress: Progress) -> Gives:
    if tool.last is not None:
        return await tool.last(parts, principal, wanted, progress)
    assert tool.run is not None
    limiter = parts.searchers if tool.searches else parts.threads
    # A client that cancels is let go at once; the statement under way ends by itself.
    return await anyio.to_thread.run_sync(tool.run, parts, principal, wanted, limiter=limiter, abandon_on_cancel=True)


async def in_thread(parts: Parts, ask: Callable[[Parts, Principal, Any], T], principal: Principal, given: Any) -> T:
    """A short look that is no tool. Raises Refused, whatever goes wrong."""
    try:
        return await anyio.to_thread.run_sync(ask, parts, principal, given, limiter=parts.threads, abandon_on_cancel=True)
    except Exception as error:
        _refuse(error)


def _taken(tool: Tool, arguments: Mapping[str, Any]) -> Takes:
    """Raises InputError for what PostgreSQL could not store, ValidationError for what does not fit the schema."""
    for name, value in arguments.items():
        check_characters("arguments", name)
        for text, depth in _texts(value):
            if depth > MAX_METADATA_DEPTH:
                raise InputError(f"{name} is nested too deep", hint=f"at most {MAX_METADATA_DEPTH} levels", field=name)
            check_characters(name, text)
    return tool.takes.model_validate(dict(arguments))


def _texts(value: Any) -> Iterator[tuple[str, int]]:
    """Every string of a JSON value, with its depth, without recursion."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, str):
            yield one, depth
        elif isinstance(one, dict):
            yield "", depth
            waiting += [(inner, depth + 1) for pair in one.items() for inner in pair]
        elif isinstance(one, list):
            yield "", depth
            waiting += [(inner, depth + 1) for inner in one]


def _refuse(error: Exception) -> NoReturn:
    match error:
        case ValidationError():
            raise Refused(_wrong(error), "correct the arguments; the tool's inputSchema says what it takes") from error
        case PermissionError():
            raise Refused(str(error), "leave out `tenant`") from error
        case InputError() if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            # The rest of it may name another tenant's.
            said = f"an article with this {error.field} exists already"
            raise Refused(said, f"update that article, or choose another {error.field}") from error
        case InputError() | NotWell():
            raise Refused(str(error)[:SHOWN], error.hint) from error
        case NotFound():
            raise Refused(str(error)[:SHOWN], LOOK_FOR_IT if error.hint.startswith("`embedq") else error.hint) from error
        case EmbedqError():
            log.warning("a tool was refused: %s", error)
            said = "embedq cannot do it now: something that it needs does not answer"
            raise Refused(said, "try again in a while; `embedq health` tells the operator more") from error
        case _ if isinstance(error, BUSY):
            raise Refused("someone else is writing this article; nothing was written", "try again") from error
        case _:
            log.error("unexpected in a tool: %s", type(error).__name__, exc_info=error)
            raise Refused("embedq made a mistake", "its log says more; trying the same again will not help") from error


def _wrong(error: ValidationError) -> str:
    """The fields that do not fit; the values are not repeated: they may be anything."""
    found = {
        ".".join(str(part) for part in each["loc"])[:100] or "arguments": each["msg"]
        for each in error.errors(include_input=False)
    }
    said = "; ".join(f"{field}: {why}" for field, why in list(found.items())[:10])
    return said.encode("utf-8", "replace").decode()[: 2 * SHOWN]


def as_text(given: Gives) -> str:
    """The same as the structured content, for clients that show text alone."""
    return json.dumps(given.model_dump(mode="json"), ensure_ascii=False)
