"""The passwords of one home: random, made once, in a file that only the home's owner can read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

FILE = "passwords.json"
# Iterations slow down the guessing of weak passwords. 256 random bits cannot be guessed, and 4,096 iterations would cost each connection 5 ms.
ITERATIONS = 1


class Passwords(NamedTuple):
    """`admin`: PostgreSQL's superuser. `application`: the role that embedq uses. `flower`: of the user embedq, in the browser."""

    admin: str
    application: str
    redis: str
    flower: str

    def __repr__(self) -> str:
        return "Passwords(…)"


def kept(home: Path) -> Passwords | None:
    """The stored passwords; None if there are none or the file is damaged (new ones are made then)."""
    with suppress(OSError, ValueError, TypeError):
        return Passwords(**json.loads((home / FILE).read_text()))
    return None


def keep(home: Path) -> Passwords:
    """The passwords of this home; created if there are none."""
    found = kept(home)
    if found is None:
        found = Passwords(*(secrets.token_urlsafe(32) for _ in Passwords._fields))
        write_json(home / FILE, found._asdict())
    return found


def write_json(file: Path, value: object) -> None:
    """Write the file atomically, readable by its owner only."""
    write_private(file, json.dumps(value).encode())


def write_private(file: Path, content: bytes, owner: tuple[int, int] | None = None) -> None:
    """As write_json. It never writes through a symbolic link: another user may own the folder."""
    unfinished = file.with_name(file.name + ".new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        if owner is not None:
            os.fchown(out.fileno(), *owner)
        out.write(content)
    unfinished.replace(file)


def verifier(password: str, salt: bytes | None = None) -> str:
    """The SCRAM verifier that PostgreSQL stores for a password. Statements use it instead of the password, which then appears in no log.

    Source: RFC 5802 and PostgreSQL's scram-common.c, scram_build_secret.
    """
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def is_of(stored: str | None, password: str) -> bool:
    """Whether the stored verifier was made from this password by `verifier`."""
    head, _, rest = (stored or "").partition(":")
    if head != f"SCRAM-SHA-256${ITERATIONS}":
        return False
    return hmac.compare_digest(verifier(password, base64.b64decode(rest.partition("$")[0])), stored or "")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
