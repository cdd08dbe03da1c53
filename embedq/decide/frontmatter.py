"""Front matter of a Markdown file: YAML between lines of ---, or TOML between lines of +++."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple

LONGEST: Final = 65_536
# Limits of depth and number of values: YAML nested a thousand levels deep crashes the parser.
DEEPEST, MOST_VALUES = 32, 10_000

_HEAD: Final = re.compile(r"(?P<mark>---|\+\+\+)[ \t]*\n(?P<data>.*?)^(?P=mark)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_TITLE: Final = re.compile(r"^title[ \t]*[:=][ \t]*(.+)$", re.MULTILINE)


class FrontMatter(NamedTuple):
    """`data`: the values that JSON can represent, dates as ISO 8601. `rest`: the text below. `title`: empty if there is none."""

    data: Mapping[str, Any]
    title: str
    rest: str


def front_matter(text: str) -> FrontMatter:
    """Split off the front matter. Without one everything is `rest`. Front matter that cannot be parsed stays in `rest`, but a line `title:`
    in it is used."""
    head = _HEAD.match(text[: LONGEST + 10])
    if head is None:
        return FrontMatter({}, "", text)
    data = _parsed(head["data"], is_yaml=head["mark"] == "---")
    if data is None:
        named = _TITLE.search(head["data"])
        return FrontMatter({}, named[1].strip(" \"'") if named else "", text)
    title = data.pop("title", None)
    return FrontMatter(data, " ".join(str(title).split()) if title is not None else "", text[head.end() :])


def _parsed(source: str, *, is_yaml: bool) -> dict[str, Any] | None:
    try:
        found = _yaml(source) if is_yaml else tomllib.loads(source)
        return _plain({} if found is None else found, _Room()) if isinstance(found, dict | None) else None
    except (ValueError, RecursionError):
        return None


def _yaml(source: str) -> object:
    """Parse YAML. Raises ValueError, also for aliases, because a few of them can expand to millions of values."""
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(source, yaml.SafeLoader)):
            raise ValueError("aliases")
        return yaml.safe_load(source)
    except yaml.YAMLError as wrong:
        raise ValueError(str(wrong)) from None


class _Room:
    def __init__(self) -> None:
        self.left = MOST_VALUES

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("too many values")


def _plain(value: object, room: _Room, depth: int = 0) -> Any:
    """The value as JSON types. Raises ValueError if it is nested too deep or has too many values."""
    room.take()
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    match value:
        case dict():
            return {str(key): _plain(inner, room, depth + 1) for key, inner in value.items()}
        case list() | tuple() | set():
            return [_plain(inner, room, depth + 1) for inner in value]
        case datetime() | date() | time():
            return value.isoformat()
        case bool() | None | str():
            return value.replace("\0", " ") if isinstance(value, str) else value
        case int():
            return value if value.bit_length() <= 64 else str(value)
        case float():
            return value if abs(value) < float("inf") else str(value)
        case _:
            return str(value)
