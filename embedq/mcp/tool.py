"""What a tool is: a function from what it takes to what it gives, both typed, with the token that it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from ..decide.access import Area, Need, Principal, Scope
from .parts import Parts

Progress = Callable[[float, float, str], Awaitable[None]]
F = TypeVar("F", bound=Callable[..., Any])

READ = Need(Scope.READ, Area.MCP)
WRITE = Need(Scope.WRITE, Area.MCP)
# What an operator looks at; it shows all tenants.
OPERATE = Need(Scope.ADMIN, Area.OPERATOR)


class Takes(BaseModel):
    """Unknown names are refused: a misspelt one must not be lost in silence."""

    model_config = ConfigDict(extra="forbid")


class Gives(BaseModel):
    """What a tool answers, as structured content."""


class Run(Protocol):
    """A tool's own code, in a thread."""

    def __call__(self, parts: Parts, principal: Principal, wanted: Any) -> Gives: ...


class Last(Protocol):
    """A tool's own code that lasts, in the event loop."""

    def __call__(self, parts: Parts, principal: Principal, wanted: Any, progress: Progress) -> Awaitable[Gives]: ...


@dataclass(frozen=True, slots=True)
class Tool:
    """`searches`: it waits for the provider. `destroys`, `repeatable`: hints for the client (destructiveHint, idempotentHint)."""

    name: str
    about: str
    need: Need
    takes: type[Takes]
    gives: type[Gives]
    run: Run | None = None
    last: Last | None = None
    searches: bool = False
    destroys: bool = False
    repeatable: bool = True

    @property
    def reads(self) -> bool:
        return self.need is not WRITE


TOOLS: dict[str, Tool] = {}


def tool(need: Need, *, lasts: bool = False, **hints: bool) -> Callable[[F], F]:
    """A function becomes a tool of its name; its docstring is what a model reads, its annotations are the schemas."""

    def register(function: F) -> F:
        types = get_type_hints(function)
        more: dict[str, Any] = hints | {"last" if lasts else "run": function}
        name, about = function.__name__, " ".join((function.__doc__ or "").split())
        TOOLS[name] = Tool(name, about, need, types["wanted"], types["return"], **more)
        return function

    return register


TENANT = Field(None, max_length=100, description="Whose articles; without it the token's tenant, else `default`.")
ARTICLE = Field(min_length=1, max_length=500, description="The article's id, or its slug.")
