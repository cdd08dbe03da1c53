"""The configuration of the embedded Valkey or Redis. It is passed by standard input, so that no file and no argv contains the password."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = "127.0.0.1"
# All commands except those that reconfigure, inspect or stop the server: CONFIG SET dir, for example, could write files anywhere.
# Commands that are dangerous only because they are slow or delete data are allowed: all keys are the application's.
RIGHTS = "+@all -@dangerous -@admin +info +keys +flushdb +flushall +client|setname +client|getname +client|id -config -debug -module -acl"


def configuration(folder: Path, port: int, password: str) -> bytes:
    """The configuration; it contains only the password's hash. Source: Redis documentation, "ACL" and "Configuration"."""
    hashed = hashlib.sha256(password.encode()).hexdigest()
    lines = (
        f"bind {LOOPBACK}",
        f"port {port}",
        f'dir "{_escaped(str(folder))}"',
        "appendonly yes",
        'save ""',
        "maxmemory-policy noeviction",
        f"user default reset on #{hashed} ~* &* {RIGHTS}",
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def answers(port: int, password: str) -> bool:
    """Whether the server answers a PING."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2.0) as connection:
            connection.sendall(b"AUTH %b\r\nPING\r\n" % password.encode())
            with connection.makefile("rb") as said:
                return said.readline() == b"+OK\r\n" and said.readline() == b"+PONG\r\n"
    except OSError:
        return False
