"""A long text -> chunks that a model can take, each a stretch of the text as it stands.

Where to cut is decided by the text around the cut and by nothing else, so that an edit changes the chunks beside it and
leaves the others as they were, vectors included. Packing each chunk as full as it goes would move every later cut along
with the first. Instead, of the places in the second half of the room a chunk has, the best kind is taken (before a
heading, between paragraphs, after a sentence, at a line's end, between words), and among equals the one whose following
text has the highest checksum. Two readings of the same text that began at different places soon meet at such a place, and
agree from there on. The price: chunks are three quarters full on average.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

from ..decide.tokens import EIGHTHS, eighths

# The best kind first. A cut is where group 1 ends; the white space that follows it belongs to no chunk.
HEADING: Final = re.compile(r"()\n(?=#{1,6}[ \t]|[^\n]{1,120}+\n(?:={3}|-{3}|~{3}|\^{3}))")
PARAGRAPH: Final = re.compile(r"()\n[ \t\r]*+\n")
SENTENCE: Final = re.compile(r"([.!?…][\"'”’»)\]]{0,3})(?=\s)|([。！？][”’」』）]{0,3})")
LINE: Final = re.compile(r"()\n")
WORD: Final = re.compile(r"()\s")
KINDS: Final = (HEADING, PARAGRAPH, SENTENCE, LINE, WORD)

SOMETHING: Final = re.compile(r"\S")
# How far past the room a pattern may look to see that a place at its very end is one.
LOOK_AHEAD: Final = 130
COMPARED: Final = 32
COMBINING: Final = frozenset(("Mn", "Mc", "Me"))
ZERO_WIDTH_JOINER: Final = "\u200d"


class ChunkSize(NamedTuple):
    """Estimated tokens of one chunk, and how many of them are repeated in the next."""

    tokens: int = 2000
    overlap_tokens: int = 100


USUAL: Final = ChunkSize()


class Chunk(NamedTuple):
    """`text` is the characters `start` to `end` of the whole text."""

    start: int
    end: int
    text: str


def chunk(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """The text in chunks of at most `max_tokens` estimated tokens (decide.tokens), in order; none for a blank text.

    Everything but white space is in a chunk, and no chunk begins or ends with white space. A text that fits is one
    chunk. From the second chunk on, each begins with up to `overlap_tokens` (at most a quarter of `max_tokens`) of the
    one before, from the beginning of a sentence, else of a word, else, where nothing is spaced, of a character. Takes
    time in proportion to the text's length. Raises ValueError when `max_tokens` is below 1 or `overlap_tokens` below 0.
    """
    if max_tokens < 1 or overlap_tokens < 0:
        raise ValueError(f"a chunk of {max_tokens} tokens with {overlap_tokens} of overlap is none")
    room = max_tokens * EIGHTHS
    start, stop = _next_character(text, 0), len(text.rstrip())
    if eighths(text[start:stop]) <= room:
        return [Chunk(start, stop, text[start:stop])] if start < stop else []
    overlap = min(overlap_tokens, max_tokens // 4) * EIGHTHS
    bodies = list(_bodies(text, start, stop, room - overlap))
    begins = [start, *(_overlap_start(text, before[0], body[0], overlap) for before, body in pairwise(bodies))]
    return [Chunk(begin, end, text[begin:end]) for begin, (_, end) in zip(begins, bodies, strict=True)]


def _bodies(text: str, start: int, stop: int, room: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each chunk without its overlap."""
    while start < stop:
        last = _last_that_fits(text, start, stop, room)
        cut = last if last == stop else _best_cut(text, start, last)
        yield start, start + len(text[start:cut].rstrip())
        start = _next_character(text, cut)


def _next_character(text: str, position: int) -> int:
    found = SOMETHING.search(text, position)
    return found.start() if found else len(text)


def _last_that_fits(text: str, start: int, stop: int, room: int) -> int:
    """The highest end for which text[start:end] has at most `room` eighths of a token, and at least one character."""
    ends = range(start + 1, min(start + 1 + room // 2, stop) + 1)
    return start + max(1, bisect_right(ends, room, key=lambda end: eighths(text[start:end])))


def _first_that_fits(text: str, earliest: int, end: int, room: int) -> int:
    """The lowest start from `earliest` on for which text[start:end] has at most `room` eighths of a token."""
    starts = range(end, max(earliest, end - room // 2) - 1, -1)
    return end + 1 - bisect_right(starts, room, key=lambda start: eighths(text[start:end]))


def _best_cut(text: str, start: int, last: int) -> int:
    first = start + (last - start + 1) // 2
    for kind in KINDS:
        if cuts := _cuts(kind, text, max(first, start + 1), last):
            return max(cuts, key=lambda cut: (_checksum(text, cut, COMPARED), cut))
    return _cut_between_characters(text, start, last)


def _cuts(kind: re.Pattern[str], text: str, first: int, last: int) -> list[int]:
    found = kind.finditer(text, first - 1, last + LOOK_AHEAD)
    return [cut for match in found if first <= (cut := match.end(match.lastindex or 0)) <= last]


def _checksum(text: str, position: int, length: int) -> int:
    return crc32(text[position : position + length].encode("utf-8", "surrogatepass"))


def _cut_between_characters(text: str, start: int, last: int) -> int:
    """For a stretch without any white space: in its last quarter, the place with the highest checksum."""
    first = max(start + 1, last - (last - start) // 4)
    places = [place for place in range(first, last + 1) if not _is_one_character(text[place - 1], text[place])]
    return max(places, key=lambda place: _checksum(text, place, 8), default=last)


def _is_one_character(before: str, after: str) -> bool:
    """Whether a reader sees one character where the text has two: an accent, a joined emoji, a flag, a surrogate pair."""
    if after < "\u0300":
        return False
    if ZERO_WIDTH_JOINER in (before, after) or unicodedata.category(after) in COMBINING:
        return True
    is_flag = "\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff"
    is_pair = "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff"
    return is_flag or is_pair or "\U0001f3fb" <= after <= "\U0001f3ff"


def _overlap_start(text: str, before: int, body: int, room: int) -> int:
    """Where the chunk whose own text begins at `body` takes up the one that began at `before`."""
    earliest = _first_that_fits(text, before + 1, body, room)
    for kind in (SENTENCE, WORD):
        found = kind.search(text, earliest - 1, body)
        if found and (begin := _next_character(text, found.end())) < body:
            return begin
    if WORD.search(text, earliest, body):
        return body  # the word before is longer than the overlap: half of it would say nothing
    while earliest < body and _is_one_character(text[earliest - 1], text[earliest]):
        earliest += 1
    return earliest
