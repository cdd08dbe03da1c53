"""Checks arguments and environment variables as text."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any, Final

# The range of PostgreSQL's bigint; and thirty years in seconds, which overflow no clock and no wait.
LARGEST: Final = 2**63 - 1
LONGEST_S: Final = 1e9


def checked(given: Any) -> Any:
    """Check a value, or each of several: text must be valid, numbers within range; paths are unchanged. Raises ValueError, whose message
    contains no part of the value."""
    match given:
        case str():
            return as_text(given)
        case float() if not math.isfinite(given) or abs(given) > LONGEST_S:
            raise ValueError(f"must be a number of at most {LONGEST_S:g}")
        case int() if abs(given) > LARGEST:
            raise ValueError(f"must be a number of at most {LARGEST}")
        case tuple():
            return tuple(map(checked, given))
        case _:
            return given


def path_in_text(path: str | os.PathLike[str]) -> str:
    """A path as text to store or send: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def as_text(given: str) -> str:
    """Decode as UTF-8 the bytes that Python passed on as surrogates because they are invalid in the locale. Not for paths, which must
    return to the system unchanged. Raises ValueError, whose message contains no part of the text."""
    if "\0" in given:
        raise ValueError("has a NUL, which no text may have")
    try:
        return given.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        raise ValueError("is not UTF-8") from None


_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers of the connection and the body, which the HTTP client sets.
_NOT_THEIRS: Final = frozenset(
    ("host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "accept")
)


def headers_of(raw: str) -> Mapping[str, str]:
    """HTTP headers from a JSON object of strings; none for an empty text. Raises ValueError, whose message contains no value."""
    try:
        found = json.loads(raw) if raw else {}
    except ValueError:
        raise ValueError('must be a JSON object: {"Name": "value"}') from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError('must be a JSON object of strings: {"Name": "value"}')
    for name, value in found.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _NOT_THEIRS:
            raise ValueError("names a header that cannot be set here")
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise ValueError("has a value that no header can carry")
    return found
