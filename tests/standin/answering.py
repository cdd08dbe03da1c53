"""What the stand-in does with one request for embeddings: hold it, fail it, spoil it or answer it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from .control import State, without_probes
from .vectors import tokens_of, vector_of
from .wires import Ask, BadRequest, answer_body, ask_of, error_body


@dataclass
class Reply:
    """What goes over the wire. `cut` sends half the body and closes; a status of 0 closes without a word."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut: bool = False
    ask: Ask | None = None


DISCONNECT = Reply(0, b"")
Gone = Callable[[], Awaitable[None]]


class Answering:
    """Answers requests one by one; `change` wakes who waits for held requests."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.change = asyncio.Condition()

    async def answer(self, wire: str, headers: dict[str, str], body: bytes, gone: Gone) -> Reply:
        """`gone` returns when the client has hung up."""
        try:
            ask = ask_of(wire, body)
        except BadRequest as error:
            return self._error(wire, 400, str(error), headers, param=error.param)
        self._count(ask)
        await self._while_held()
        refusal = self._refused(ask, headers)
        if refusal is not None:
            return refusal
        control = self.state.control
        await asyncio.sleep((control.latency_ms + control.latency_per_input_ms * len(ask.texts)) / 1000)
        return await self._made(ask, headers, gone)

    def _count(self, ask: Ask) -> None:
        seen = self.state.seen
        seen.requests += 1
        seen.inputs += len(ask.texts)
        seen.texts.update(without_probes(ask.texts))

    async def _while_held(self) -> None:
        if not self.state.control.hold:
            return
        seen = self.state.seen
        async with self.change:
            seen.held += 1
            self.change.notify_all()
            try:
                await self.change.wait_for(lambda: not self.state.control.hold)
            finally:
                seen.held -= 1
                self.change.notify_all()

    def _refused(self, ask: Ask, headers: dict[str, str]) -> Reply | None:
        control = self.state.control
        if control.require_key and headers.get("authorization") != f"Bearer {control.require_key}":
            return self._error(ask.wire, 401, "Incorrect API key provided.", headers, code="invalid_api_key")
        wait_s = self.state.over_rate_s(time.monotonic())
        if wait_s is not None:
            return self._limited(ask, headers, wait_s)
        if self.state.must_fail():
            reply = self._error(ask.wire, control.fail_status, control.fail_message, headers, code=control.fail_code)
            reply.headers |= control.fail_headers
            return reply
        return self._too_much(ask, headers)

    def _limited(self, ask: Ask, headers: dict[str, str], wait_s: float) -> Reply:
        reply = self._error(ask.wire, 429, "Rate limit reached for requests", headers, code="rate_limit_exceeded")
        reply.headers |= {
            "retry-after": str(math.ceil(wait_s)),
            "x-ratelimit-limit-requests": str(self.state.control.requests_per_minute),
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{wait_s:.3f}s",
        }
        return reply

    def _too_much(self, ask: Ask, headers: dict[str, str]) -> Reply | None:
        control = self.state.control
        longest = max(map(tokens_of, ask.texts))
        if not all(ask.texts):
            return self._error(ask.wire, 400, "'$.input' has an empty string", headers, param="input")
        if len(ask.texts) > control.max_inputs:
            return self._error(ask.wire, 400, f"at most {control.max_inputs} inputs", headers, param="input")
        if longest > control.max_input_tokens and not ask.truncate:
            return self._error(ask.wire, 400, f"maximum context length is {control.max_input_tokens} tokens", headers)
        if ask.tokens > control.max_tokens:
            return self._error(ask.wire, 400, f"at most {control.max_tokens} tokens per request", headers)
        return None

    def _error(
        self,
        wire: str,
        status: int,
        message: str,
        headers: dict[str, str],
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> Reply:
        if self.state.control.echo_authorization:
            message = f"{message} You sent: Authorization: {headers.get('authorization', '')}"
        return Reply(status, error_body(wire, message, code=code, param=param))

    def _marked(self, ask: Ask) -> tuple[int, str] | None:
        for position, text in enumerate(ask.texts):
            for marker, action in self.state.control.markers.items():
                if marker in text:
                    return position, action
        return None

    async def _made(self, ask: Ask, headers: dict[str, str], gone: Gone) -> Reply:
        position, action = self._marked(ask) or (0, self.state.next_twist())
        match action:
            case "refuse":
                return self._error(ask.wire, 400, f"input[{position}] cannot be embedded", headers, param="input")
            case "break":
                return self._error(ask.wire, 500, "internal error", headers)
            case "hang":
                await gone()
                return DISCONNECT
            case "disconnect":
                return DISCONNECT
            case "error_in_200":
                return self._error(ask.wire, 200, "the upstream is overloaded", headers, code="503")
            case "html":
                return Reply(200, b"<!DOCTYPE html><title>Welcome</title>", content_type="text/html")
            case "malformed":
                return Reply(200, b'{"data": [{]}')
            case _:
                return self._vectors(ask, action)

    def _vectors(self, ask: Ask, twist: str | None) -> Reply:
        dimensions = ask.dimensions or self.state.control.dimensions
        longest = 4 * self.state.control.max_input_tokens if ask.truncate else None
        salt = self.state.control.model
        vectors = [vector_of(salt + text[:longest], dimensions) for text in ask.texts]
        if noise := self.state.control.noise:
            vectors = [vector + noise * self._noise(dimensions) for vector in vectors]
        body = answer_body(ask, _spoilt(vectors, twist), twist=twist)
        return Reply(200, body, self._room(), cut=twist == "cut_off", ask=ask)

    def _noise(self, dimensions: int) -> np.ndarray:
        """A direction of length 1, another each time."""
        drawn = np.array([self.state.dice.gauss(0, 1) for _ in range(dimensions)], dtype=np.float32)
        return drawn / np.linalg.norm(drawn)

    def _room(self) -> dict[str, str]:
        limit = self.state.control.requests_per_minute
        if not limit:
            return {}
        left = max(0, limit - len(self.state.recent))
        return {"x-ratelimit-limit-requests": str(limit), "x-ratelimit-remaining-requests": str(left)}


def _spoilt(vectors: list[np.ndarray], twist: str | None) -> list[np.ndarray]:
    last = vectors[-1]
    match twist:
        case "one_too_few":
            return vectors[:-1]
        case "one_too_many":
            return [*vectors, last]
        case "wrong_dimensions":
            return [vector[:-1] for vector in vectors]
        case "nan":
            return [*vectors[:-1], np.full_like(last, np.nan)]
        case "zero":
            return [*vectors[:-1], np.zeros_like(last)]
        case _:
            return vectors
