"""uvicorn with bounds: connections below the number of files that the process may open, and a limited rate of log lines about them."""

from __future__ import annotations

import logging
import os
import resource
import socket
import time
from typing import TYPE_CHECKING

import uvicorn

from ..decide.connections import MOST, Limits, limits
from .connections import HEAD_MAX, Crowd, protocol
from .service import CONNECTIONS

if TYPE_CHECKING:
    from fastapi import FastAPI

# Longer than clients and proxies keep an idle connection (5 to 60 s as a rule): the client must close first, because a request that arrives
# while the server closes gets a connection reset.
KEEP_ALIVE_S = 75
# asyncio accepts so many connections in one turn of its loop, before the first of them is counted.
AT_ONCE = 4
# Length of the queue in which a burst of connections waits.
QUEUE = 2048
# Connections that are accepted and not counted yet, links to the broker, files that are opened for a moment.
SPARE_FILES = 3 * AT_ONCE + 12
SELDOM_S = 60.0
ABOUT_CONNECTIONS = ("socket.accept()", "Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for sock in sockets or ():
            # uvicorn's `backlog` is both the queue's length and the number of connections accepted at once.
            sock.listen(QUEUE)


class Seldom(logging.Filter):
    """Log lines that any client can cause are written once a minute, without a traceback, with the number that was suppressed."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        about = next((words for words in ABOUT_CONNECTIONS if said.startswith(words)), None)
        if about is None:
            return True
        until, left_out = self._said.get(about, (0.0, 0))
        if (now := time.monotonic()) < until:
            self._said[about] = until, left_out + 1
            return False
        self._said[about] = now + SELDOM_S, 0
        record.msg, record.args, record.exc_info = f"{said.splitlines()[0]} ({left_out} more since the last time)", (), None
        return True


def run(app: FastAPI, sock: socket.socket) -> None:
    """Until TERM or Ctrl-C; requests under way are answered first."""
    seldom = Seldom()
    for name in ("asyncio", "uvicorn.error"):
        logging.getLogger(name).addFilter(seldom)
    config = uvicorn.Config(
        app,
        http=protocol(Crowd(allowed())),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=False,
        backlog=AT_ONCE,
        h11_max_incomplete_event_size=HEAD_MAX,
    )
    Server(config).run(sockets=[sock])


def allowed() -> Limits:
    """As many connections as file descriptors allow; the soft limit is raised where the hard one allows it."""
    reserved = open_files() + CONNECTIONS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST + reserved
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return limits(most if soft == resource.RLIM_INFINITY else soft, reserved)


def open_files() -> int:
    """About as many as are open now: the lowest number that is free."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    return free
