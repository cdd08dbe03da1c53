"""Masks credentials in messages of providers, libraries and servers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from urllib.parse import quote

MASK: Final = "***"
_SHORTEST_SECRET: Final = 4

_VALUE: Final = r"[^\s'\",;&]+"
_PATTERNS: Final = (
    re.compile(rf"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:bearer\s+|basic\s+)?){_VALUE}"),
    re.compile(rf"(?i)(\bbearer\s+){_VALUE}"),
    re.compile(rf"(?i)(\b(?:api[-_ ]?key|token|secret|password)[\"']?\s*[:=]\s*[\"']?){_VALUE}"),
    re.compile(r"(\bsk-)[A-Za-z0-9_*.-]+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^/\s@]+(?=@)"),
)


def mask(text: str, secrets: Iterable[str | None] = ()) -> str:
    """The text with every given secret, and whatever looks like a credential, replaced by three asterisks.

    Given secrets are found as they are, without surrounding blanks, and percent-encoded; ones of fewer than four
    characters are left, as they could be part of any word.
    """
    for form in sorted(_forms(secrets), key=len, reverse=True):
        text = text.replace(form, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def _forms(secrets: Iterable[str | None]) -> set[str]:
    given = [secret.strip() for secret in secrets if secret]
    forms = {form for secret in given for form in (secret, quote(secret, safe=""))}
    return {form for form in forms if len(form) >= _SHORTEST_SECRET}


def fingerprint(server: str, *secrets: str) -> str:
    """Eight hexadecimal digits that distinguish keys for a server without revealing them; empty if there is no key."""
    if not any(secrets):
        return ""
    return sha256("\0".join(("embedq", server, *secrets)).encode("utf-8", "replace")).hexdigest()[:8]
