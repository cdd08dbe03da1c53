"""Which methods a path takes: checked first, because FastAPI takes GET /api/articles/batch for an article named `batch`,
and names one route's methods in `Allow` where a path has several routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from .problems import Refusal


class Paths:
    def __init__(self, routes: Iterable[BaseRoute], others: Mapping[str, str] | None = None) -> None:
        """The routes in the order in which they are tried; `others`: paths that take one method, and which."""
        found: dict[str, tuple[re.Pattern[str], set[str]]] = {
            path: (re.compile(re.escape(path) + r"\Z"), {method}) for path, method in (others or {}).items()
        }
        for route in routes:
            if isinstance(route, APIRoute):
                found.setdefault(route.path, (route.path_regex, set()))[1].update(route.methods or ())
        for _, methods in found.values():
            # HEAD is answered as GET is, without the body.
            methods.update({"HEAD"} if "GET" in methods else ())
        self._found = tuple((pattern, frozenset(methods)) for pattern, methods in found.values())

    def check(self, path: str, method: str) -> None:
        """Raises Refusal (405) when there is such a path and it does not take the method."""
        taken = next((methods for pattern, methods in self._found if pattern.match(path)), None)
        if taken is None or method in taken:
            return
        allow = ", ".join(sorted(taken))
        title, step = "This path does not take that method", f"use one of: {allow}"
        raise Refusal(405, "method", title, f"this path takes {allow}", step, headers={"Allow": allow})
