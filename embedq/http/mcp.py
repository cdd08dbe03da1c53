"""/mcp: the tools for agents on the service, by streamable HTTP. Stateless: any process of the service can answer any request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.routing import Route

from ..decide.access import Principal
from ..decide.bodies import ARTICLE
from ..mcp.wire import readable
from ..operations.authentication import acting
from .needs import need_of
from .origins import host_is_local
from .problems import Refusal
from .service import Service, the_service

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Message, Receive, Scope, Send

PATH: Final = "/mcp"


class Mcp:
    """An ASGI application. The SDK is imported, and its tasks are started, by the first request."""

    def __init__(self) -> None:
        self._manager: StreamableHTTPSessionManager | None = None
        self._starting = anyio.Lock()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        service = the_service(request)
        check_page(request)
        need = need_of("POST", PATH)
        assert need is not None
        acting.set(await service.gate.admit(request.headers.get("authorization"), need))
        size = await service.bodies.read(request, ARTICLE)
        try:
            body = readable(request._body.decode("utf-8", "replace")).encode()
            manager = await self._started(service)
            await manager.handle_request(sized(scope, body), replayed(body, receive), send)
        finally:
            service.bodies.let_go(size)

    async def run(self) -> None:
        """The SDK's tasks live here, until this is cancelled."""
        async with anyio.create_task_group() as self._tasks:
            await anyio.sleep_forever()

    async def _started(self, service: Service) -> StreamableHTTPSessionManager:
        async with self._starting:
            if self._manager is None:
                manager = await anyio.to_thread.run_sync(made, service)
                assert self._tasks is not None
                await self._tasks.start(kept_running, manager)
                self._manager = manager
        return self._manager


async def kept_running(manager: StreamableHTTPSessionManager, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    async with manager.run():
        task_status.started()
        await anyio.sleep_forever()


def made(service: Service) -> StreamableHTTPSessionManager:
    """Raises Refusal (503) without the SDK."""
    try:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from ..mcp.parts import Parts
        from ..mcp.server import make_server
    except ImportError:
        step = "install embedq[mcp] where the service runs"
        raise Refusal(503, "mcp", "MCP is not installed", "the SDK is missing", step, headers={"Retry-After": "3600"}) from None
    parts = Parts(service.client, service.settings, service.pace, service.searchers)

    async def whose(_: Any) -> Principal:
        return acting.get()

    # Host and Origin are checked already, and the body is limited.
    return StreamableHTTPSessionManager(
        make_server(lambda: parts, whose), stateless=True, max_request_body_size=2 * ARTICLE.size
    )


def check_page(request: Request) -> None:
    """Against DNS rebinding: a browser names its page's Origin, and such a page is served by no other name than this machine's. Raises Refusal."""
    if "origin" in request.headers and not host_is_local(request.headers):
        detail, step = "a page asks under a name that is not this machine's", "call it from a program, which sends no Origin"
        raise Refusal(403, "elsewhere", "Another site's page asked", detail, step)


def sized(scope: Scope, body: bytes) -> Scope:
    """The request as it is with this body."""
    others = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*others, (b"content-length", str(len(body)).encode())]}


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then what else comes: the client's end."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


class McpRoute(Route):
    """The path as the log and the metrics name it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        await self.app(scope, receive, send)


def route() -> tuple[Mcp, McpRoute]:
    application = Mcp()
    return application, McpRoute(PATH, application, methods=["POST"], include_in_schema=False)
