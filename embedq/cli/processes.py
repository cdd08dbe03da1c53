"""The processes that `embedq up` and `quickstart` start: Celery worker, poller, HTTP service, Flower."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from ..local.owner import make_home
from ..local.passwords import FILE, keep
from ..local.process import Part
from ..local.supervisor import Lines
from ..model import Priority
from .environments import FLOWERS, of_a_worker, of_flower, of_the_service

QUEUES = ",".join(Priority)
WORKER_STOP_S = 70.0
CELERY = (sys.executable, "-m", "celery", "-A", "embedq")


def celery_part(environment: Mapping[str, str], *arguments: str) -> Part:
    argv = [
        *CELERY,
        "worker",
        "--pool",
        "threads",
        "-Q",
        QUEUES,
        "--without-mingle",
        "--without-gossip",
        "--loglevel",
        "INFO",
        "--hostname",
        f"embedq-{os.getpid()}@%h",
        *arguments,
    ]
    return Part("celery", argv, of_a_worker(environment), stop_timeout_s=WORKER_STOP_S)


def poller_part(environment: Mapping[str, str]) -> Part:
    return Part("poller", [sys.executable, "-m", "embedq", "poller"], of_a_worker(environment), stop_timeout_s=WORKER_STOP_S)


def http_part(environment: Mapping[str, str], port: int, lines: Lines) -> Part:
    """On loopback, where tokens are needed only if ADMIN_TOKEN or AUTH_TOKEN is set."""
    lines.say("embedq", f"HTTP service and cockpit: http://127.0.0.1:{port}")
    argv = [sys.executable, "-m", "embedq", "serve", "--host", "127.0.0.1", "--port", str(port)]
    return Part("http", argv, of_the_service(environment), stop_timeout_s=15.0)


def flower_part(environment: Mapping[str, str], port: int, lines: Lines, home: Path) -> Part:
    """Flower behind basic auth: FLOWER_BASIC_AUTH's, or a generated password that is stored in the home. It is passed in the environment, not in argv."""
    auth = environment.get(FLOWERS)
    if auth:
        lines.say("embedq", f"Flower: http://127.0.0.1:{port} (user and password as {FLOWERS} says)")
    else:
        make_home(home)
        auth = f"embedq:{keep(home).flower}"
        lines.say("embedq", f'Flower: http://127.0.0.1:{port} (user embedq, password "flower" in {home / FILE})')
    lines.say(
        "embedq", "Flower's page of tasks stays empty while Celery's events are off; the service's page /tasks needs none"
    )
    argv = [*CELERY, "flower", "--address=127.0.0.1", f"--port={port}", "--enable_events=False"]
    return Part("flower", argv, of_flower(environment, auth), stop_timeout_s=5.0)


def free_port(wanted: int) -> int:
    """The wanted port, or a free one if it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
