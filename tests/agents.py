"""Agents: clients of MCP over both transports, the SDK's own, and one that sends whatever it is told to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.forked import python
from tests.support import ROOT, env

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a test", "version": "1"}}


@asynccontextmanager
async def agent(
    transport: str, environment: Mapping[str, str], url: str, token: str, mode: Any = "auto"
) -> AsyncIterator[Client]:
    """The SDK's client, over stdio or HTTP, with that token (empty: none)."""
    if transport == "stdio":
        whole = env(dict(environment) | {"EMBEDQ_TOKEN": token})
        command, *words = python(whole)
        server = StdioServerParameters(command=command, args=[*words, "-m", "embedq", "mcp"], env=whole, cwd=ROOT)
        async with Client(server, mode=mode, read_timeout_seconds=60) as client:
            yield client
        return
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    http = httpx2.AsyncClient(headers=headers, timeout=60)
    transported = streamable_http_client(f"{url}/mcp", http_client=http)
    async with http, Client(transported, mode=mode, read_timeout_seconds=60) as client:
        yield client


class Raw:
    """JSON-RPC as text."""

    def ask(self, message: str) -> dict[str, Any]:
        """The answer to a request, whose id is 7."""
        raise NotImplementedError

    def call(self, tool: str, arguments: str) -> dict[str, Any]:
        """`arguments` are the text of a JSON value, sent as it is."""
        return self.ask(
            f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":{json.dumps(tool)},"arguments":{arguments}}}}}'
        )


class OverStdio(Raw):
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, message: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(message + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            assert line, f"it ended with {self.process.wait(10)}"
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == 7:
                return answer


class OverHttp(Raw):
    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(self, message: str) -> dict[str, Any]:
        answer = self.client.post("/mcp", content=message.encode())
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        found: dict[str, Any] = json.loads(lines[-1] if lines else answer.text)
        return found


@contextmanager
def raw(transport: str, environment: Mapping[str, str], url: str, token: str) -> Iterator[Raw]:
    if transport == "http":
        with httpx.Client(base_url=url, headers=ACCEPT | {"Authorization": f"Bearer {token}"}, timeout=60) as client:
            yield OverHttp(client)
        return
    whole = env(dict(environment) | {"EMBEDQ_TOKEN": token})
    argv = [*python(whole), "-m", "embedq", "mcp"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=whole, cwd=ROOT) as process:
        try:
            over = OverStdio(process)
            over.ask(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": HELLO}))
            assert process.stdin is not None
            process.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
            yield over
        finally:
            process.kill()
