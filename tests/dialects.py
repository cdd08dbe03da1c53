"""A server that speaks OpenAI's embeddings API as one of many products does; the first part of the path says which: /tei/v1/embeddings."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.standin.vectors import vector_of

DIMENSIONS = 64
LONGEST = 512


def tokens_of(text: str) -> int:
    """As a vocabulary of word pieces counts: a word costs one for five letters, digits one for two, every other character one."""
    pieces = re.findall(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]", text)
    return 2 + sum(-(-len(piece) // (5 if piece[0].isalpha() and piece.isascii() else 2)) for piece in pieces)


class Refused(Exception):
    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}


@dataclass
class Asked:
    """One request: its body, path and headers (lower case)."""

    body: dict[str, Any]
    path: str
    headers: dict[str, str]

    @property
    def texts(self) -> list[str]:
        given = self.body["input"]
        return [given] if isinstance(given, str) else given

    @property
    def longest(self) -> int:
        return max(map(tokens_of, self.texts))


Product = Callable[[Asked, list[dict[str, Any]]], None]


def _refuse_more(most: int, status: int, body: Callable[[int], Any]) -> Product:
    def product(asked: Asked, data: list[dict[str, Any]]) -> None:
        if len(asked.texts) > most:
            raise Refused(status, body(len(asked.texts)))

    return product


def _refuse_longer(status: int, body: Callable[[int], Any], longest: int = LONGEST) -> Product:
    def product(asked: Asked, data: list[dict[str, Any]]) -> None:
        if asked.longest > longest:
            raise Refused(status, body(asked.longest))

    return product


def _refuse_parameter(name: str, status: int, body: Any, value: object = None) -> Product:
    def product(asked: Asked, data: list[dict[str, Any]]) -> None:
        if name in asked.body and value in (None, asked.body[name]):
            raise Refused(status, body)

    return product


def _without_index(asked: Asked, data: list[dict[str, Any]]) -> None:
    for datum in data:
        del datum["index"]


def _first_without_index(asked: Asked, data: list[dict[str, Any]]) -> None:
    del data[0]["index"]


def _zeros(asked: Asked, data: list[dict[str, Any]]) -> None:
    for datum in data:
        datum["index"] = 0


def _backwards(asked: Asked, data: list[dict[str, Any]]) -> None:
    """It does harm: without indices, in another order."""
    _without_index(asked, data)
    data.reverse()


def _full_length(asked: Asked, data: list[dict[str, Any]]) -> None:
    """Its vectors are twice as long unless it is told."""
    if "dimensions" not in asked.body:
        for datum, text in zip(data, asked.texts, strict=True):
            datum["embedding"] = vector_of(text, 2 * DIMENSIONS).tolist()


def _floats(asked: Asked, data: list[dict[str, Any]]) -> None:
    for datum, text in zip(data, asked.texts, strict=True):
        datum["embedding"] = vector_of(text, DIMENSIONS).tolist()


def _azure(asked: Asked, data: list[dict[str, Any]]) -> None:
    if "api-version=" not in asked.path or "/embeddings?" not in asked.path:
        raise Refused(404, {"error": {"code": "404", "message": "Resource not found"}})
    if asked.headers.get("api-key") != "key-of-azure" or "authorization" in asked.headers:
        raise Refused(401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}})


def _lm_studio(asked: Asked, data: list[dict[str, Any]]) -> None:
    if asked.longest > LONGEST:
        raise Refused(200, {"error": "The input length exceeds the context length of the loaded model."})


def _whole_request(asked: Asked, data: list[dict[str, Any]]) -> None:
    if sum(map(tokens_of, asked.texts)) > 1_000:
        raise Refused(
            400, {"object": "error", "message": "Too many tokens in batch. Max is 1000.", "type": "invalid_request_batch_error"}
        )


# As the products write them.
EXTRA = {"type": "extra_forbidden", "loc": ["body", "encoding_format"], "msg": "Extra inputs are not permitted"}
NO_BASE64 = "Invalid value for 'encoding_format': base64 is not supported, use float"
MATRYOSHKA = "Model does not support matryoshka representation, changing output dimensions will lead to poor results."
TEN = "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: input.contents"
VLLM = (
    "This model's maximum context length is 512 tokens. However, you requested {} tokens in the input for embedding generation."
)
TEI = "Input validation error: `inputs` must have less than 512 tokens. Given: {}"
LLAMA_CPP = "input ({} tokens) is too large to process. increase the physical batch size (current batch size: 512)"
GEMINI = {
    "code": 400,
    "message": "Unable to submit request because the input token count is too high.",
    "status": "INVALID_ARGUMENT",
}

PRODUCTS: dict[str, Product] = {
    "plain": lambda asked, data: None,
    "lists of numbers": _floats,
    "mistral: encoding_format is no parameter": _refuse_parameter(
        "encoding_format", 422, {"object": "error", "message": {"detail": [EXTRA]}}
    ),
    "base64 is not supported": _refuse_parameter(
        "encoding_format", 400, {"error": {"message": NO_BASE64, "type": "x"}}, "base64"
    ),
    "a parameter is named and not described": _refuse_parameter(
        "encoding_format", 400, {"error": {"message": "Unsupported value", "param": "encoding_format", "code": None}}
    ),
    "vllm: dimensions are refused": _refuse_parameter("dimensions", 400, {"object": "error", "message": MATRYOSHKA}),
    "dimensions are needed": _full_length,
    "no index": _without_index,
    "gemini: no index of 0": _first_without_index,
    "ik_llama: every index is 0": _zeros,
    "dashscope: 10 inputs": _refuse_more(10, 400, lambda n: {"error": {"message": TEN, "code": "InvalidParameter"}}),
    "tei: 32 inputs": _refuse_more(
        32, 422, lambda n: {"error": f"batch size {n} > maximum allowed batch size 32", "error_type": "Validation"}
    ),
    "16 inputs, no number is said": _refuse_more(
        16, 400, lambda n: {"error": {"message": "Too many inputs in request, split into more batches."}}
    ),
    "16 inputs, nothing is said": _refuse_more(16, 400, lambda n: {"error": "Bad Request"}),
    "mistral: tokens of a request": _whole_request,
    "vllm: 512 tokens": _refuse_longer(400, lambda n: {"object": "error", "message": VLLM.format(n)}),
    "tei: 512 tokens": _refuse_longer(413, lambda n: {"message": TEI.format(n), "code": 413, "type": "Validation"}),
    "llama.cpp: 512 tokens": _refuse_longer(
        500, lambda n: {"error": {"code": 500, "message": LLAMA_CPP.format(n), "type": "server_error"}}
    ),
    "lm studio: an error with status 200": _lm_studio,
    "ollama: no number is said": _refuse_longer(400, lambda n: {"error": "the input length exceeds the context length"}),
    "a length in other words": _refuse_longer(422, lambda n: {"detail": "Eingabe zu lang"}),
    "a length in no words": _refuse_longer(400, lambda n: {}),
    "a length ends in a failure": _refuse_longer(500, lambda n: {"error": "internal error"}),
    "gemini: an error in a list": _refuse_longer(400, lambda n: [{"error": GEMINI}]),
    "200 tokens": _refuse_longer(400, lambda n: {"error": {"message": "maximum is 200 tokens"}}, 200),
    "azure": _azure,
}
HARM: dict[str, Product] = {"no index, backwards": _backwards}


@dataclass
class Server:
    """`log` has a (status, number of texts) for each request. `tokens_per_s`: one request at a time, goes on when the client has gone."""

    port: int
    tokens_per_s: float = 0.0
    log: list[tuple[int, int]] = field(default_factory=list)
    seen: list[Asked] = field(default_factory=list)
    one: threading.Lock = field(default_factory=threading.Lock)

    def url(self, product: str, rest: str = "/v1") -> str:
        return f"http://127.0.0.1:{self.port}/{list({**PRODUCTS, **HARM}).index(product)}{rest}"

    def refused(self) -> int:
        return sum(status != 200 for status, _ in self.log)

    def answer(self, asked: Asked) -> tuple[int, Any, dict[str, str]]:
        self.seen.append(asked)
        product = list({**PRODUCTS, **HARM}.values())[int(asked.path.split("/")[1])]
        vectors = [vector_of(text, DIMENSIONS) for text in asked.texts]
        plain = asked.body.get("encoding_format") != "base64"
        data = [
            {"index": place, "embedding": vector.tolist() if plain else base64.b64encode(vector.tobytes()).decode()}
            for place, vector in enumerate(vectors)
        ]
        try:
            product(asked, data)
        except Refused as refused:
            self.log.append((refused.status if refused.status != 200 else 400, len(asked.texts)))
            return refused.status, refused.body, refused.headers
        self.log.append((200, len(asked.texts)))
        return 200, {"object": "list", "data": data, "model": asked.body.get("model")}, {}

    def compute(self, asked: Asked) -> None:
        if self.tokens_per_s:
            with self.one:
                time.sleep(sum(map(tokens_of, asked.texts)) / self.tokens_per_s)


@contextmanager
def dialects() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked = Asked(body, self.path, {name.lower(): value for name, value in self.headers.items()})
            server.compute(asked)
            status, answer, headers = server.answer(asked)
            self._send(status, json.dumps(answer).encode(), headers)

        def _send(self, status: int, raw: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)
            except OSError:
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(http.server_address[1])
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
