"""A client for many writes at once, light enough to share the service's cores: one thread, one plain connection for each write.

`python -m tests.bench.burst URL TOKEN COUNT BURSTS`: prints, for each burst, the statuses and every write's seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

PATIENCE_S = 120.0


async def write(host: str, port: int, token: str, number: int) -> tuple[int, float]:
    """Connect, create one article, read the whole answer: its status, and the seconds from before the connection to the end."""
    body = json.dumps({"title": f"Article {number}", "content": "some short text " * 12}).encode()
    head = (
        f"POST /api/articles HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head + body)
    answer = await reader.read()
    took = time.perf_counter() - began
    writer.close()
    return int(answer.split(b" ", 2)[1]), took


async def burst(host: str, port: int, token: str, count: int) -> dict[str, object]:
    done = await asyncio.wait_for(asyncio.gather(*(write(host, port, token, number) for number in range(count))), PATIENCE_S)
    return {"statuses": Counter(status for status, _ in done), "seconds": [took for _, took in done]}


def main() -> None:
    url, token, count, bursts = urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    assert url.hostname is not None and url.port is not None
    for _ in range(bursts):
        print(json.dumps(asyncio.run(burst(url.hostname, url.port, token, count))), flush=True)


if __name__ == "__main__":
    main()
