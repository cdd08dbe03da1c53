"""How many connections the HTTP service holds open: below the number of files that the process may open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEAST: Final = 8
MOST: Final = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """`per_peer`: limit for one client address, so that half of the connections stay available to others."""

    total: int
    per_peer: int


def limits(files: int, reserved: int) -> Limits:
    """`files`: how many files the process may open (RLIMIT_NOFILE). `reserved`: how many it needs for other purposes."""
    total = max(LEAST, min(MOST, files - reserved))
    return Limits(total, max(1, total // 2))
