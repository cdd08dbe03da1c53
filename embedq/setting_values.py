"""Parsers of environment variables. Each raises ValueError, whose message says what is wrong and contains no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .address_kinds import of_broker
from .addresses import Address
from .model import Mode

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def folder(raw: str) -> str:
    """A path; ~ and ~NAME are expanded. Raises ValueError when that user is unknown."""
    try:
        Path(raw).expanduser()
    except RuntimeError:
        raise ValueError("names the home folder of a user who has none; write the whole path") from None
    return raw


def boolean(raw: str) -> bool:
    if raw.lower() in TRUE + FALSE:
        return raw.lower() in TRUE
    raise ValueError("must be true or false")


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Parser of whole numbers from `least` to `most`."""

    def parse(raw: str) -> int:
        try:
            number = int(raw)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not least <= number <= most:
            raise ValueError(f"must be between {least} and {most}")
        return number

    return parse


def mode_of(raw: str) -> Mode:
    try:
        return Mode(raw.lower())
    except ValueError:
        raise ValueError(f"must be one of: {', '.join(Mode)}") from None


def one_of(*words: str) -> Callable[[str], str]:
    """Parser of one of these words, in any case."""

    def parse(raw: str) -> str:
        if raw.lower() not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return raw.lower()

    return parse


def checked(check: Callable[[str], Any]) -> Callable[[str], str]:
    """Check the text with a parser, and keep it as written."""

    def parse(raw: str) -> str:
        check(raw)
        return raw

    return parse


TOKEN_MIN = 16


MAKE_A_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


def token_of(raw: str) -> str:
    """A token: must fit into an HTTP header and be hard to guess."""
    if len(raw) < TOKEN_MIN:
        raise ValueError(f"must have at least {TOKEN_MIN} characters; make one: {MAKE_A_TOKEN}")
    if not (raw.isascii() and raw.isprintable()) or " " in raw:
        raise ValueError(f"must be visible ASCII characters without spaces; make one: {MAKE_A_TOKEN}")
    return raw


BROKERS = ("redis", "rediss", "unix", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp")


def broker_of(raw: str) -> Address:
    return of_broker(raw, BROKERS)
