"""A client that costs little beside the service: kept-alive sockets, prepared bytes, no HTTP library.

`python -m tests.bench.light HOST PORT TOKEN CLIENTS COUNT`, with what to ask as lines `METHOD PATH BODY` on the standard input, taken in turn. Prints
as JSON the seconds of the whole, those of each request, and the statuses.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence

PATIENCE_S = 60.0


def prepared(host: str, token: str, line: str) -> bytes:
    method, path, body = line.rstrip("\n").split(" ", 2)
    length = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{length}\r\n{body}".encode()


def ask(sock: socket.socket, request: bytes) -> int:
    """Send one request and read its whole answer; the status."""
    sock.sendall(request)
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(sock)
    head = answer[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    left = end + 4 + length - len(answer)
    while left > 0:
        left -= len(_more(sock))
    return int(head[9:12])


def _more(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    if not piece:
        raise ConnectionError("the service closed a kept-alive connection")
    return piece


def work(host: str, port: int, requests: Sequence[bytes], times: list[float], statuses: list[int]) -> None:
    with socket.create_connection((host, port), PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            began = time.perf_counter()
            statuses.append(ask(sock, request))
            times.append(time.perf_counter() - began)


def main() -> None:
    host, port, token, clients, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    lines = [prepared(host, token, line) for line in sys.stdin]
    requests = [lines[n % len(lines)] for n in range(count)]
    times: list[float] = []
    statuses: list[int] = []
    threads = [
        threading.Thread(target=work, args=(host, port, requests[number::clients], times, statuses))
        for number in range(clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    print(json.dumps({"whole": whole, "seconds": times, "statuses": Counter(map(str, statuses))}))


if __name__ == "__main__":
    main()
