"""Limits of a request body: bytes, and for JSON number of values and depth, counted while it arrives and before it is parsed.

Small JSON can need much memory when parsed: 16 MB of `[[],[],…]` are five million lists.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
BODY_MAX: Final = 16 * MIB
# Metadata may be nested 64 levels deep (decide.drafts); deeper metadata is refused there, by field. Python's parser fails at about 900.
DEPTH_MAX: Final = 200
VALUES_MAX: Final = 100_000
# An article of a batch needs about ten of these; the rest is for metadata.
VALUES_OF_ONE: Final = 32
_STRUCTURE: Final = b"[]{},"
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(_STRUCTURE))
_DEEPER_OR_LESS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one path. `values` counts commas and opening brackets outside strings. `within_s`: time for receiving the whole body."""

    size: int
    values: int = 1000
    depth: int = DEPTH_MAX
    within_s: float = 60.0  # enough for 16 MiB at 2.3 Mbit/s


OPERATORS: Final = Bounds(64 * KIB)
# A query of 10,000 characters, and a filter of 20 keys and values of 1,000 characters; each may be written as \uXXXX\uXXXX.
SEARCH: Final = Bounds(MIB)
ARTICLE: Final = Bounds(BODY_MAX, VALUES_MAX)


def batch(most: int) -> Bounds:
    """The limits for a batch of at most this many articles."""
    return replace(ARTICLE, values=max(VALUES_MAX, VALUES_OF_ONE * most))


class Counted:
    """Counts the values and depth of a JSON text that arrives in pieces. It does not check that the text is JSON."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._rest = b""  # state at the end of the previous piece: inside a string (its quotation mark), or after a backslash
        self._values, self._opened, self._depth = 0, 0, 0

    def too_much(self, piece: bytes) -> str | None:
        """Count a piece; the reason if the text now exceeds its limits, else None."""
        structure = self._outside_strings(piece).translate(None, _NOT_STRUCTURE)
        opened = structure.count(b"[") + structure.count(b"{")
        self._values += opened + structure.count(b",")
        self._opened += opened
        if self._values > self._bounds.values:
            return f"it has more than {self._bounds.values:,} values"
        if self._deepest(structure.translate(_DEEPER_OR_LESS, b",")) > self._bounds.depth:
            return f"it is nested deeper than {self._bounds.depth} levels"
        return None

    def _outside_strings(self, piece: bytes) -> bytes:
        # Without escapes in the piece, every quotation mark begins or ends a string.
        plain = (self._rest + piece).replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = plain.split(b'"')
        self._rest = (b"" if len(parts) % 2 else b'"') + (b"\\" if plain.endswith(b"\\") else b"")
        return b"".join(parts[::2])

    def _deepest(self, steps: bytes) -> int:
        """The deepest level of the piece; `steps` are 1 and -1. Skipped while too few brackets were opened to exceed the limit."""
        before = self._depth
        self._depth += steps.count(b"\x01") - steps.count(b"\xff")
        if self._opened <= self._bounds.depth:
            return before
        return max(accumulate(array("b", steps), initial=before))
