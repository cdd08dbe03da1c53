"""How the embedded Valkey or Redis is configured. The configuration goes in by standard input: no file and no argv holds it."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = "127.0.0.1"
# Everything but what reconfigures, inspects or stops the server: through CONFIG SET dir it would write files of a caller's choice.
# Of what is dangerous only because it is slow or deletes, the application may do all: the keys are its own.
RIGHTS = "+@all -@dangerous -@admin +info +keys +flushdb +flushall +client|setname +client|getname +client|id -config -debug -module -acl"


def configuration(folder: Path, port: int, password: str) -> bytes:
    """Redis keeps the password's hash only. Source: Redis documentation, "ACL" and "Configuration"."""
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
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2.0) as connection:
            connection.sendall(b"AUTH %b\r\nPING\r\n" % password.encode())
            with connection.makefile("rb") as said:
                return said.readline() == b"+OK\r\n" and said.readline() == b"+PONG\r\n"
    except OSError:
        return False
