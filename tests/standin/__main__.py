"""`python -m tests.standin --port 0 --dimensions 64`: the first line on stdout is {"port": …}."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

from .server import Server


async def serve(host: str, port: int, dimensions: int, *, with_parent: bool) -> None:
    listening = await asyncio.start_server(Server(dimensions).serve, host, port, limit=2**20, backlog=1_024)
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    if with_parent:
        await _until_parent_dies()
    else:
        await listening.serve_forever()


async def _until_parent_dies() -> None:
    """The parent holds the other end of our stdin: it closes with the parent, however that died."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    parent = os.getppid()
    while os.getppid() == parent:
        # A forked child of the parent may hold the pipe open, so the parent's number is looked at as well.
        try:
            await asyncio.wait_for(reader.read(1), timeout=1.0)
        except TimeoutError:
            continue
        return


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description="A stand-in for OpenAI and Ollama.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--dimensions", type=int, default=64, help="of vectors, where the request names none")
    parser.add_argument("--die-with-parent", action="store_true", help="end when stdin closes")
    wish = parser.parse_args()
    try:
        asyncio.run(serve(wish.host, wish.port, wish.dimensions, with_parent=wish.die_with_parent))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
