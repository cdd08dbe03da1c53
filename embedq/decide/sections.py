"""The sections of a text: Markdown headings (`## Tea`), HTML headings (`<h2>Tea</h2>`), and titles with a line of punctuation below (Markdown,
reStructuredText). Lines in code blocks are not headings."""

from __future__ import annotations

import html
import re
from typing import Final, NamedTuple

from .blocks import block_around, blocks

HASHES: Final = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
TAGS: Final = re.compile(r"<h([1-6])\b[^<>]*>(.*?)</h\1\s*>.*", re.IGNORECASE)
TAG: Final = re.compile(r"<[^<>]*>")
UNDERLINE: Final = re.compile(r"([=\-~^\"'`+*#:.])\1{2,}\s*")


# A text that this does not match has no heading; a fast check for most texts.
MAY_BE: Final = re.compile(r"#|<h[1-6]\b|([=\-~^\"'`+*#:.])\1{2,}", re.IGNORECASE)
# How far after a position the underline of a title that begins before it may end.
LONGEST_LINE: Final = 1000


class Section(NamedTuple):
    """`level`: 1 is the outermost. `starts_at`, `ends_at`: characters, with all sections below it."""

    title: str
    level: int
    starts_at: int
    ends_at: int


def sections(text: str) -> list[Section]:
    """The sections of a text, in order."""
    found = _headings(text)
    ends = [
        next((later.starts_at for later in found[number + 1 :] if later.level <= each.level), len(text))
        for number, each in enumerate(found)
    ]
    return [each._replace(ends_at=end) for each, end in zip(found, ends, strict=True)]


def section_of(text: str, title: str) -> Section | None:
    """The first section with that title, ignoring case; None if there is none."""
    wanted = " ".join(title.casefold().split())
    return next((each for each in sections(text) if " ".join(each.title.casefold().split()) == wanted), None)


def path_at(text: str, position: int, longest: int = 200) -> list[str]:
    """The titles of the sections that contain this character, outermost first. The outermost are dropped while they have more than
    `longest` characters together."""
    found = paths(text, position)
    titles = found[-1][1] if found else []
    while titles and sum(map(len, titles)) > longest:
        titles = titles[1:]
    return titles


def paths(text: str, until: int | None = None) -> list[tuple[int, list[str]]]:
    """For each section: the character at which it begins, and the titles of the sections that contain it, its own last."""
    above: list[Section] = []
    found = []
    for each in _headings(text, until):
        above = [*(outer for outer in above if outer.level < each.level), each]
        found.append((each.starts_at, [outer.title for outer in above if outer.title]))
    return found


def _headings(text: str, until: int | None = None) -> list[Section]:
    """Headings (sections without their ends) that begin up to a character."""
    found: list[Section] = []
    underlines: list[str] = []  # underline characters in order of first use, which is the order of their levels
    last = len(text) if until is None else until
    if not MAY_BE.search(text, 0, last + LONGEST_LINE):
        return found
    code = [each for each in blocks(text if until is None else text[: last + LONGEST_LINE]) if each.is_code]
    at, before, before_at = 0, "", 0
    for line in text.splitlines(keepends=True):
        if at > last + LONGEST_LINE:
            break
        bare = line.strip()
        if code and block_around(code, at + 1) is not None:
            bare = ""
        elif marked := _marked(bare, at):
            found.append(marked)
        elif (
            before and len(bare) >= len(before) > 2 and (under := UNDERLINE.fullmatch(bare)) and not UNDERLINE.fullmatch(before)
        ):
            if under[1] not in underlines:
                underlines.append(under[1])
            found.append(Section(before, underlines.index(under[1]) + 1, before_at, before_at))
        before, before_at = bare, at
        at += len(line)
    return [each for each in found if each.starts_at <= last]


def _marked(line: str, at: int) -> Section | None:
    """A heading marked on its own line."""
    if hashes := HASHES.fullmatch(line):
        return Section(hashes[2], len(hashes[1]), at, at)
    if tags := TAGS.match(line):
        return Section(html.unescape(TAG.sub("", tags[2])).strip(), int(tags[1]), at, at)
    return None
