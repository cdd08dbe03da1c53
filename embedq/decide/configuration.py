"""A configuration that can be kept and compared: every setting by name, secrets only as whether they are set and a salted digest.

The digest notices a change and gives nothing away: its salt is the version's own, it is slow to make, and it is cut short.
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
        """Whether it holds something that must not be shown: a secret, or an address with a user or password in it."""
        return bool(self.value) and (self.secret or "@" in self.text or secret_of(self.text) != str(self.text))

    @property
    def shown(self) -> Any:
        if not self.hides:
            return self.value
        return "(set, hidden)" if self.secret else shown(self.text)

    @property
    def text(self) -> str:
        """As it was given: an Address is a string that shows what may be shown."""
        return self.value if isinstance(self.value, str) else str(self.value)


def kept(settings: list[Setting]) -> dict[str, Any]:
    """As a version keeps them: values, or {"set", "digest"} for what hides something. Only what the environment names."""
    salt = secrets.token_hex(16)
    found = {each.name: _kept(each, salt) for each in settings if each.given}
    return {"salt": salt, "settings": found}


def _kept(setting: Setting, salt: str) -> Any:
    if setting.hides:
        return {"set": True, "shown": setting.shown, "digest": digest(setting.name, secret_of(setting.text), salt)}
    return setting.value


def digest(name: str, value: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", value.encode(), f"{salt}:{name}".encode(), ROUNDS).hex()[:DIGITS]


class Change(NamedTuple):
    """One setting that differs. `then` and `now` are fit to be shown; None: the environment does not name it."""

    name: str
    then: Any
    now: Any
    hidden: bool = False


def differences(version: Mapping[str, Any], settings: list[Setting]) -> list[Change]:
    """What differs between a version and the environment as it is."""
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
    """What differs between two versions. Their salts differ: of a secret it is only known whether it was set."""
    changes = []
    for name in sorted({*old["settings"], *new["settings"]}):
        then, now = _shown(old["settings"].get(name)), _shown(new["settings"].get(name))
        if then != now:
            changes.append(Change(name, then, now, isinstance(old["settings"].get(name), dict)))
    return changes


def environment_lines(changes: list[Change]) -> list[str]:
    """What to put into the environment to have the version again; a secret has to come from where secrets are kept."""
    return [_line(change) for change in changes]


def _line(change: Change) -> str:
    if change.then is None:
        return f"unset {change.name}"
    if change.hidden:
        return f"# {change.name} was another one: take it from where you keep secrets"
    value = str(change.then).lower() if isinstance(change.then, bool) else str(change.then)
    return f"export {change.name}={quote(value)}"


def live_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """What differs in the live row: mode, throttle, pauses."""
    return [Change(name, then.get(name), now.get(name)) for name in LIVE if then.get(name) != now.get(name)]
