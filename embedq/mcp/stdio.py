"""`embedq mcp`: one client, over standard input and output."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import mcp_types as types
from mcp.server.stdio import stdio_server

from ..decide.access import Area, Principal, Scope
from ..settings import Settings
from .server import make_server
from .wire import instead_of, readable

if TYPE_CHECKING:
    from ..operations.authentication import Admission
    from .parts import Parts
    from .server import Context

# The process has the database's password already: a token is there to limit the agent, and without one it works on articles.
WITHOUT_A_TOKEN = Principal("stdio", Scope.WRITE, frozenset({Area.MCP}))


class Lines:
    """Standard input by lines, each of which the SDK's parser takes."""

    def __init__(self) -> None:
        self._lines = anyio.wrap_file(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace"))

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._lines:
            if (message := told(readable(line))) is not None:
                yield message


def told(line: str) -> str | None:
    """The line, or what is to be answered instead; None where there is nothing to answer."""
    try:
        types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return instead_of(line)
    return line


class OneProcess:
    """The process's parts, made when they are first needed, and whose token EMBEDQ_TOKEN is: asked for at each request, so that a revoked
    one opens nothing a second later."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts: Parts | None = None
        self._admission: Admission | None = None

    def parts(self) -> Parts:
        if self._parts is None:
            from .parts import parts_of

            self._parts = parts_of(self._settings)
        return self._parts

    async def whose(self, _: Context) -> Principal:
        return await anyio.to_thread.run_sync(self._whose) if self._settings.mcp_token else WITHOUT_A_TOKEN

    def _whose(self) -> Principal:
        from ..operations.authentication import Admission

        admission = self._admission = self._admission or Admission(self._settings, lambda: self.parts().client.store.tokens)
        principal = admission.who(self._settings.mcp_token)
        if principal is None:
            raise PermissionError("EMBEDQ_TOKEN is no open token")
        known = admission.with_id(principal.token)
        if known is not None and not admission.is_noted(known) and (wait_s := admission.use(known)):
            raise PermissionError(f"the token {principal.name} has used up its rate; wait {wait_s:.0f} s")
        return principal

    def close(self) -> None:
        if self._parts is not None:
            self._parts.client.close()


async def serve(settings: Settings) -> None:
    """Until standard input ends."""
    process = OneProcess(settings)
    server = make_server(process.parts, process.whose)
    lines: Any = Lines()
    try:
        async with stdio_server(stdin=lines) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        process.close()


def run(settings: Settings) -> None:
    anyio.run(serve, settings)
