"""How many connections the HTTP service holds open: below the number of files that the process may open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEAST: Final = 8
MOST: Final = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """`per_peer`: for one address, so that the other half is left to the others."""

    total: int
    per_peer: int


def limits(files: int, reserved: int) -> Limits:
    """`files`: how many the process may open (RLIMIT_NOFILE). `reserved`: those that it needs for anything else."""
    total = max(LEAST, min(MOST, files - reserved))
    return Limits(total, max(1, total // 2))
