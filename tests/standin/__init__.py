"""A stand-in for OpenAI and Ollama: a process of its own that speaks both wire formats over real HTTP.

It misbehaves on demand (`StandIn.control`, names in `control.Control`), tells what it has seen (`stats`, `texts`) and
holds requests so that a test can force an order of events (`held`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests import forked

from .vectors import tokens_of, vector_of

__all__ = ["StandIn", "running", "tokens_of", "vector_of"]

ROOT = Path(__file__).resolve().parents[2]


class StandIn:
    """The client's side: starts the process, changes how it behaves, asks what it saw. The process dies with this one."""

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> StandIn:
        """Starts the process; after `stop` or `kill` again on the same port, with nothing remembered."""
        python = forked.python(os.environ, ROOT) if forked.begun() else [sys.executable]
        command = [*python, "-m", "tests.standin", "--port", str(self.port), "--dimensions", str(self.dimensions)]
        self._process = subprocess.Popen(
            [*command, "--die-with-parent"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        first_line = self._process.stdout.readline()
        if not first_line:
            raise RuntimeError(f"the stand-in ended with {self._process.wait(10)} before it told its port")
        self.port = json.loads(first_line)["port"]
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """For OLLAMA_BASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """For OPENAI_BASE_URL."""
        return f"{self.url}/v1"

    def vector(self, text: str, dimensions: int | None = None) -> Any:
        """The vector it answers with for a text, shape (dimensions,), float32."""
        return vector_of(text, dimensions or self.dimensions)

    def control(self, **wishes: Any) -> None:
        """Change how it behaves; what is not named stays. Raises ValueError for a name it does not know."""
        self._call("POST", "/_control", wishes)

    def reset(self) -> None:
        """Well-behaved again, and nothing seen. Held requests are released."""
        self._call("POST", "/_reset")

    def stats(self) -> dict[str, Any]:
        """What it has seen since the last reset, in numbers: those of `control.Seen`, with `paid_inputs` and `paid_twice`."""
        return self._call("GET", "/_stats")

    def texts(self) -> dict[str, int]:
        """How often each text has arrived, answered or not."""
        return dict(self._call("GET", "/_texts")["texts"])

    def paid(self) -> dict[str, int]:
        """How often each text was answered with a vector."""
        return dict(self._call("GET", "/_texts")["paid"])

    def hold(self) -> None:
        """From now on requests wait."""
        self.control(hold=True)

    def release(self) -> None:
        """Waiting requests go on, and new ones no longer wait."""
        self._call("POST", "/_release")

    @contextmanager
    def held(self) -> Iterator[StandIn]:
        """Requests wait inside the block and go on after it."""
        self.hold()
        try:
            yield self
        finally:
            self.release()

    def wait_until_held(self, at_least: int = 1, timeout_s: float = 10.0) -> dict[str, Any]:
        """Returns when that many requests wait. Raises TimeoutError when they do not in time."""
        return self._call("GET", f"/_held?at_least={at_least}&timeout_s={timeout_s}", patience_s=timeout_s + 5)

    def stop(self) -> None:
        """Ends it and waits for that. Safe to call twice."""
        self._end(kill=False)

    def kill(self) -> None:
        """SIGKILL: connections break in the middle of whatever they do."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill() if kill else process.terminate()
        process.communicate(timeout=10)

    def _call(self, method: str, path: str, body: Any = None, *, patience_s: float = 10.0) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=patience_s)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status == 408:
            raise TimeoutError(answer["error"]["message"])
        if response.status != 200:
            raise ValueError(answer["error"]["message"])
        return answer


def running(dimensions: int = 64, **control: Any) -> Iterator[StandIn]:
    """For a fixture: `yield from running()`. Starts a stand-in, and stops it when the fixture ends."""
    standin = StandIn(dimensions).start()
    try:
        standin.control(**control)
        yield standin
    finally:
        standin.stop()
