"""Configurations as stored and compared: every setting by name; of secrets only whether they are set, and a salted digest.

The digest detects changes and does not reveal the secret: it has a salt per version, a slow hash, and is truncated.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any, NamedTuple

from ..addresses import secret_of, shown

ROUNDS = 100_000
DIGITS = 12
LIVE = ("mode", "throttle", "paused_priorities", "paused_tenants")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is now. `given`: whether the environment names it."""

    name: str
    value: Any
    secret: bool
    given: bool
    about: str = ""

    @property
    def hides(self) -> bool:
        """Whether the value must not be shown: a secret, or an address with a user or password."""
        return bool(self.value) and (self.secret or "@" in self.text or secret_of(self.text) != str(self.text))

    @property
    def shown(self) -> Any:
        if not self.hides:
            return self.value
        return "(set, hidden)" if self.secret else shown(self.text)

    @property
    def text(self) -> str:
        """The value as text. An Address prints only the part that is safe to show."""
        return self.value if isinstance(self.value, str) else str(self.value)


def kept(settings: list[Setting]) -> dict[str, Any]:
    """Settings as a version stores them: values, or {"set", "digest"} for hidden ones. Only settings that the environment names."""
    salt = secrets.token_hex(16)
    found = {each.name: _kept(each, salt) for each in settings if each.given}
    return {"salt": salt, "settings": found}


def _kept(setting: Setting, salt: str) -> Any:
    if setting.hides:
        return {"set": True, "shown": setting.shown, "digest": digest(setting.name, secret_of(setting.text), salt)}
    return setting.value


def digest(name: str, value: str, salt: str) -> str:
    """The salted, slow and truncated digest of a secret setting."""
    return hashlib.pbkdf2_hmac("sha256", value.encode(), f"{salt}:{name}".encode(), ROUNDS).hex()[:DIGITS]


class Change(NamedTuple):
    """One setting that differs. `then` and `now` are safe to show; None: the environment does not name it."""

    name: str
    then: Any
    now: Any
    hidden: bool = False


def differences(version: Mapping[str, Any], settings: list[Setting]) -> list[Change]:
    """Differences between a version and the current environment."""
    then, now = version["settings"], {each.name: each for each in settings if each.given}
    changes = []
    for name in sorted({*then, *now}):
        old, new = then.get(name), now.get(name)
        if not _same(name, old, new, version["salt"]):
            hidden = isinstance(old, dict) or (new is not None and new.hides)
            changes.append(Change(name, _shown(old), None if new is None else new.shown, hidden))
    return changes


def _same(name: str, old: Any, new: Setting | None, salt: str) -> bool:
    if old is None or new is None:
        return old is None and new is None
    if isinstance(old, dict):
        return bool(new.hides and old["digest"] == digest(name, secret_of(new.text), salt))
    return not new.hides and bool(old == new.value)


def _shown(old: Any) -> Any:
    return old["shown"] if isinstance(old, dict) else old


def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Differences between two versions. Their salts differ, so secrets are compared only by whether they were set."""
    changes = []
    for name in sorted({*old["settings"], *new["settings"]}):
        then, now = _shown(old["settings"].get(name)), _shown(new["settings"].get(name))
        if then != now:
            changes.append(Change(name, then, now, isinstance(old["settings"].get(name), dict)))
    return changes


def environment_lines(changes: list[Change]) -> list[str]:
    """Lines for the environment that restore a version; secrets must be filled in by the operator."""
    return [_line(change) for change in changes]


def _line(change: Change) -> str:
    if change.then is None:
        return f"unset {change.name}"
    if change.hidden:
        return f"# {change.name} was another one: take it from where you keep secrets"
    value = str(change.then).lower() if isinstance(change.then, bool) else str(change.then)
    return f"export {change.name}={quote(value)}"


def live_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Differences in the live row: mode, throttle, pauses."""
    return [Change(name, then.get(name), now.get(name)) for name in LIVE if then.get(name) != now.get(name)]
