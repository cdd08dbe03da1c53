"""Chooses two loopback ports for a home's servers, the same at every start if they are free."""

from __future__ import annotations

import json
import socket
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import EmbedqError
from .owner import OWN_SERVERS
from .passwords import write_json

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = "127.0.0.1"
# Below the ephemeral range, so that no outgoing connection takes the port during a restart.
PORTS = range(15_000, 32_000)


def ports_of(home: Path) -> list[int]:
    """The ports for Redis and PostgreSQL: those of the last start if they are free."""
    remembered: list[int] = []
    with suppress(OSError, ValueError, TypeError):
        remembered = [int(port) for port in json.loads((home / "ports.json").read_text())]
    ports: list[int] = []
    for port in [*remembered, 0, 0][:2]:
        ports.append(port if port and port not in ports and is_free(port) else _pick(ports))
    if ports != remembered:
        write_json(home / "ports.json", ports)
    return ports


def _pick(taken: Collection[int]) -> int:
    from random import sample

    for port in sample(PORTS, len(PORTS)):
        if port not in taken and is_free(port):
            return port
    raise EmbedqError(f"no port from {PORTS[0]} to {PORTS[-1]} is free on {LOOPBACK}", hint=f"end some servers, {OWN_SERVERS}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
