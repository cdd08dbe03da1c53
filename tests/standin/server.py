"""The stand-in's HTTP/1.1, by hand: only so can it hang, break off in the middle of a body, and notice who hung up."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .answering import Answering, Reply
from .control import State, without_probes
from .wires import error_body

EMBED_PATHS = {"/v1/embeddings": "openai", "/api/embed": "ollama"}
MODELS = ("text-embedding-3-small", "nomic-embed-text")


class Server:
    """Serves one State over TCP."""

    def __init__(self, dimensions: int) -> None:
        self.state = State(dimensions)
        self.answering = Answering(self.state)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive until the client hangs up or a reply demands to break off."""
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        wire = EMBED_PATHS.get(target) if method == "POST" else None
        if wire is None:
            return await _send(writer, await self._elsewhere(method, target, headers, body))
        return await self._embeddings(wire, headers, body, reader, writer)

    async def _embeddings(
        self, wire: str, headers: dict[str, str], body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        seen = self.state.seen
        seen.concurrent += 1
        seen.max_concurrent = max(seen.max_concurrent, seen.concurrent)
        try:
            reply = await self._unless_gone(wire, headers, body, reader)
            seen.statuses[str(reply.status)] += 1
            kept = await _send(writer, reply)
            self._charge(reply)
            return kept
        except ConnectionError:
            seen.abandoned += 1
            raise
        finally:
            seen.concurrent -= 1

    async def _unless_gone(self, wire: str, headers: dict[str, str], body: bytes, reader: asyncio.StreamReader) -> Reply:
        """The reply, or ConnectionError as soon as the client hangs up: nobody is held for a client that has gone."""
        gone = asyncio.ensure_future(reader.read(1))
        answer = asyncio.ensure_future(self.answering.answer(wire, headers, body, lambda: _ended(gone)))
        try:
            await asyncio.wait((gone, answer), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionResetError("the client hung up")
            return answer.result()
        finally:
            for task in (gone, answer):
                await _cancelled(task)

    def _charge(self, reply: Reply) -> None:
        if reply.ask is not None and not reply.cut:
            self.state.seen.paid.update(without_probes(reply.ask.texts))
            self.state.seen.tokens += reply.ask.tokens

    async def _elsewhere(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        url = urlsplit(target)
        match method, url.path:
            case "POST", "/_control" | "/_release" | "/_reset":
                return await self._change(url.path, json.loads(body or b"{}"))
            case "GET", "/_stats":
                return _json(self.state.seen.stats())
            case "GET", "/_texts":
                return _json({"texts": self.state.seen.texts, "paid": self.state.seen.paid})
            case "GET", "/_held":
                return await self._held(parse_qs(url.query))
            case "GET", "/v1/models" | "/api/tags" | "/api/version":
                return self._about(url.path, headers)
        return Reply(404, error_body("openai", f"no such address: {method} {url.path}"))

    async def _change(self, path: str, wishes: dict[str, Any]) -> Reply:
        async with self.answering.change:
            if path == "/_reset":
                self.state.reset()
            try:
                self.state.change({"hold": False} if path == "/_release" else wishes)
            except ValueError as error:
                return Reply(400, error_body("openai", str(error)))
            self.answering.change.notify_all()
        return _json(self.state.seen.stats())

    async def _held(self, query: dict[str, list[str]]) -> Reply:
        """Answers when that many requests are held, with 408 when they are not in time."""
        wanted, timeout_s = int(query["at_least"][0]), float(query["timeout_s"][0])
        async with self.answering.change:
            try:
                await asyncio.wait_for(self.answering.change.wait_for(lambda: self.state.seen.held >= wanted), timeout_s)
            except TimeoutError:
                return Reply(408, error_body("openai", f"{self.state.seen.held} of {wanted} requests are held"))
        return _json(self.state.seen.stats())

    def _about(self, path: str, headers: dict[str, str]) -> Reply:
        control = self.state.control
        if control.require_key and headers.get("authorization") != f"Bearer {control.require_key}":
            return Reply(401, error_body("openai", "Incorrect API key provided.", code="invalid_api_key"))
        if control.fail_always:
            return Reply(control.fail_status, error_body("openai", control.fail_message))
        models = [{"id": name, "name": name, "model": name, "object": "model"} for name in MODELS]
        return _json({"object": "list", "data": models, "models": models, "version": "0.0.0-standin"})


async def _ended(gone: asyncio.Future[bytes]) -> None:
    await asyncio.wait((gone,))


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, ConnectionError):
        await task


def _json(answer: Any) -> Reply:
    return Reply(200, json.dumps(answer).encode())


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Whether the connection goes on."""
    if reply.status == 0:
        return False
    phrase = HTTPStatus(reply.status).phrase if reply.status in HTTPStatus._value2member_map_ else "Unknown"
    headers = {"content-type": reply.content_type, "content-length": str(len(reply.body)), **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    writer.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
    await writer.drain()
    return not reply.cut
