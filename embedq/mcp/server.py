"""The MCP server, by the official SDK: tools and resources, for whoever the caller is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from .._version import __version__
from ..decide.access import Principal
from ..decide.drafts import MAX_METADATA_DEPTH
from ..telemetry.logs import request_id
from .wire import UNREADABLE

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from .parts import Parts
    from .tool import Tool

    Context = ServerRequestContext[Any, Any]

T = TypeVar("T")
# Who asks; counted as one use of the token. Raises PermissionError, saying why, for nobody.
Whose = Callable[["Context"], Awaitable[Principal]]

# Which tools there are changes with the token alone; a client that keeps no list would ask for it at every call.
KEPT = CacheHint(ttl_ms=60_000, scope="private")
ABOUT = """\
Articles, found by meaning. Start with search_articles; read whole texts with get_article. What is saved is embedded in the background, so \
search finds it a little later: embedding_status says when. To change an article, read it first and name its version."""


def make_server(parts: Callable[[], Parts], whose: Whose) -> Server[Any]:
    """`parts`: made when a tool is first called."""
    doors = _Doors(parts, whose)
    server = Server[Any](
        "embedq",
        version=__version__,
        title="embedq",
        instructions=ABOUT,
        on_list_tools=doors.list_tools,
        on_call_tool=doors.call_tool,
        on_list_resources=doors.list_resources,
        on_list_resource_templates=doors.list_templates,
        on_read_resource=doors.read_resource,
        get_tool_input_schema=schema_of,
        cache_hints={"tools/list": KEPT, "resources/templates/list": KEPT},
    )
    server.add_request_handler(UNREADABLE, types.RequestParams, unreadable)
    return server


async def unreadable(_: Context, __: types.RequestParams) -> types.EmptyResult:
    said = "the message cannot be read: it is not JSON-RPC, is nested too deep, or holds a number that is too long"
    raise MCPError(types.PARSE_ERROR, f"{said}\nnext: send it as JSON-RPC 2.0, with at most {MAX_METADATA_DEPTH} levels")


class _Doors:
    """The handlers. What they need of the tools is imported when it is first asked for: `initialize` needs nothing of it."""

    def __init__(self, parts: Callable[[], Parts], whose: Whose) -> None:
        self._parts, self._whose = parts, whose

    async def list_tools(self, context: Context, _: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        from .calls import open_to

        principal = await self._admitted(context)
        return types.ListToolsResult(tools=[_told(tool) for tool in open_to(principal)])

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        from .calls import Refused, as_text, call

        try:
            principal = await self._whose(context)
            given = await call(self._parts(), principal, params.name, params.arguments or {}, context.session.report_progress)
        except PermissionError as nobody:
            return _error(f"{nobody}\nnext: use an open token; `embedq token list` shows which there are")
        except Refused as refused:
            return _error(str(refused))
        return types.CallToolResult(
            content=[types.TextContent(text=as_text(given))], structured_content=given.model_dump(mode="json")
        )

    async def list_resources(self, context: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        from . import resources

        principal = await self._admitted(context)
        found, more = await self._answered(resources.listed, principal, params.cursor if params else None)
        return types.ListResourcesResult(resources=[types.Resource(**one) for one in found], next_cursor=more)

    async def list_templates(
        self, context: Context, _: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        from .resources import TEMPLATES

        await self._admitted(context)
        return types.ListResourceTemplatesResult(
            resource_templates=[types.ResourceTemplate.model_validate(one, by_name=True) for one in TEMPLATES]
        )

    async def read_resource(self, context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        from . import resources

        principal = await self._admitted(context)
        text = await self._answered(resources.read, principal, params.uri)
        content = types.TextResourceContents(uri=params.uri, mime_type=resources.MEDIA_TYPE, text=text)
        return types.ReadResourceResult(contents=[content])

    async def _admitted(self, context: Context) -> Principal:
        try:
            return await self._whose(context)
        except PermissionError as nobody:
            raise MCPError(types.INVALID_REQUEST, str(nobody)) from None

    async def _answered(self, ask: Callable[[Parts, Principal, Any], T], principal: Principal, given: Any) -> T:
        from .calls import Refused, in_thread

        try:
            return await in_thread(self._parts(), ask, principal, given)
        except Refused as refused:
            raise MCPError(types.INVALID_PARAMS, str(refused)) from None


def schema_of(name: str) -> Mapping[str, Any] | None:
    """Of what a tool takes: the SDK compares headers with it, and would list all tools at each call to find it."""
    from .calls import TOOLS

    tool = TOOLS.get(name)
    return _told(tool).input_schema if tool else None


@cache
def _told(tool: Tool) -> types.Tool:
    takes, gives = tool.takes.model_json_schema(), tool.gives.model_json_schema(mode="serialization")
    return types.Tool(
        name=tool.name,
        description=tool.about,
        input_schema=takes,
        output_schema=gives,
        annotations=types.ToolAnnotations(
            read_only_hint=tool.reads, destructive_hint=tool.destroys, idempotent_hint=tool.repeatable, open_world_hint=False
        ),
    )


def _error(said: str) -> types.CallToolResult:
    told = f"{said}\nrequest: {request_id.get()}" if request_id.get() else said
    return types.CallToolResult(content=[types.TextContent(text=told)], is_error=True)
