"""The sections of a text: Markdown headings (`## Tea`), and titles with a line of punctuation below (Markdown, reStructuredText)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HASHES: Final = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
UNDERLINE: Final = re.compile(r"([=\-~^\"'`+*#:.])\1{2,}\s*")


class Section(NamedTuple):
    """`level`: 1 is the outermost. `starts_at`, `ends_at`: characters, with all sections below it."""

    title: str
    level: int
    starts_at: int
    ends_at: int


def sections(text: str) -> list[Section]:
    """In their order."""
    found = _headings(text)
    ends = [
        next((later.starts_at for later in found[number + 1 :] if later.level <= each.level), len(text))
        for number, each in enumerate(found)
    ]
    return [each._replace(ends_at=end) for each, end in zip(found, ends, strict=True)]


def section_of(text: str, title: str) -> Section | None:
    """The first of that title, whatever its case."""
    wanted = " ".join(title.casefold().split())
    return next((each for each in sections(text) if " ".join(each.title.casefold().split()) == wanted), None)


def _headings(text: str) -> list[Section]:
    found: list[Section] = []
    underlines: list[str] = []  # in the order in which they are first used: that is the order of their levels
    at, before, before_at = 0, "", 0
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if hashes := HASHES.fullmatch(bare):
            found.append(Section(hashes[2], len(hashes[1]), at, at))
        elif (
            before and len(bare) >= len(before) > 2 and (under := UNDERLINE.fullmatch(bare)) and not UNDERLINE.fullmatch(before)
        ):
            if under[1] not in underlines:
                underlines.append(under[1])
            found.append(Section(before, underlines.index(under[1]) + 1, before_at, before_at))
        before, before_at = bare, at
        at += len(line)
    return found
