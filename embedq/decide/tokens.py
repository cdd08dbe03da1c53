"""How many tokens a text is likely to be. Nothing is downloaded to find out (SPEC P6), so it is an estimate."""

from __future__ import annotations

from typing import Final

# English is near a quarter token per byte with the vocabularies in use, and other scripts are nearer to it when bytes
# are counted than when characters are.
BYTES_PER_TOKEN: Final = 4


def byte_length(text: str) -> int:
    """Bytes of UTF-8. A lone surrogate, which UTF-8 does not have, counts three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate_tokens(text: str) -> int:
    """A quarter token per byte of UTF-8, rounded up, and at least one: an empty input is charged too."""
    return max(1, -(-byte_length(text) // BYTES_PER_TOKEN))
