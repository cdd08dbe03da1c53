"""What a program is given as an argument or a variable, as text."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any, Final

# PostgreSQL's bigint; and of seconds thirty years, which no clock and no wait overflows.
LARGEST: Final = 2**63 - 1
LONGEST_S: Final = 1e9


def checked(given: Any) -> Any:
    """Text as text, and numbers that can be counted with; of several values each. Paths stay as the system has them. Raises ValueError, which
    repeats nothing of it."""
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
    """A path to be stored or sent: bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def as_text(given: str) -> str:
    """Python hands on bytes that are not of the locale as surrogates: they are read as UTF-8, whatever the locale is. Not for paths, which
    go back to the system as they came. Raises ValueError, which repeats nothing of it."""
    if "\0" in given:
        raise ValueError("has a NUL, which no text may have")
    try:
        return given.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        raise ValueError("is not UTF-8") from None


_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# They belong to the connection and to the body, which are made by what sends them.
_NOT_THEIRS: Final = frozenset(
    ("host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "accept")
)


def headers_of(raw: str) -> Mapping[str, str]:
    """HTTP headers as a JSON object of strings; nothing: none. Raises ValueError, which repeats no value."""
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
