"""Splits a long text into chunks that fit a model; each chunk is a contiguous part of the text, unchanged.

Content-defined cuts: a cut depends only on the text around it, so an edit changes the chunks beside it and the others keep their vectors.
(Filling each chunk completely would move every later cut.) A cut is searched in the second half of a chunk's size: the best kind of place
is taken (before a heading, between paragraphs, after a sentence, at a line's end, between words), and among places of one kind the one
whose following text has the highest checksum. After an edit the cuts soon coincide with the earlier ones again. The cost: chunks are three
quarters full on average. A code block or table that fits into a chunk is not cut.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

from ..decide.blocks import Block, block_around, blocks
from ..decide.sections import paths
from ..decide.tokens import EIGHTHS, eighths, estimate_tokens

# The best kind first. A cut is where group 1 ends; the white space that follows it belongs to no chunk.
HEADING: Final = re.compile(r"()\n(?=#{1,6}[ \t]|<[hH][1-6]\b|[^\n]{1,120}+\n(?:={3}|-{3}|~{3}|\^{3}))")
PARAGRAPH: Final = re.compile(r"()\n[ \t\r]*+\n")
# Scripts that end a sentence with a mark of their own, mostly without a space behind it: Chinese, Japanese, Arabic, Urdu, Hindi, Burmese, Khmer,
# Tibetan, Ethiopic, Armenian, Thai (which mostly has a space alone: a place between words).
SENTENCE: Final = re.compile(
    r"([.!?…][\"'”’»)\]]{0,3})(?=\s)|((?:[。．｡！？؟۔।॥။។៕།።։๚๛]|…{2})[”’」』）》】]{0,3})(?![。．｡！？…”’」』）》】])"
)
CLAUSE: Final = re.compile(r"([、，；：][”’」』）》】]{0,3})")
LINE: Final = re.compile(r"()\n")
WORD: Final = re.compile(r"()\s")
KINDS: Final = (HEADING, PARAGRAPH, SENTENCE, LINE, CLAUSE, WORD)

# Largest part of a chunk that headings may take.
PART_FOR_HEADINGS: Final = 8
SOMETHING: Final = re.compile(r"\S")
# Characters beyond the size limit that a pattern may read, so that it also matches at the limit.
LOOK_AHEAD: Final = 130
COMPARED: Final = 32
COMBINING: Final = frozenset(("Mn", "Mc", "Me"))
ZERO_WIDTH_JOINER: Final = "\u200d"
# Thai and Lao vowels that are written before, and behind, the consonant they belong to.
VOWELS_BEFORE: Final = frozenset("เแโใไເແໂໃໄ")
VOWELS_BEHIND: Final = frozenset("ะาำๅະາຳ")


class ChunkSize(NamedTuple):
    """Estimated tokens of one chunk, and how many of them are repeated in the next."""

    tokens: int = 2000
    overlap_tokens: int = 100


USUAL: Final = ChunkSize()


class Chunk(NamedTuple):
    """`text` is the characters `start` to `end` of the whole text; `head` is embedded before it."""

    start: int
    end: int
    text: str
    head: str = ""

    @property
    def embedded(self) -> str:
        return self.head + self.text


def chunk(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """The text in chunks of at most `max_tokens` estimated tokens (decide.tokens), in order; none for a blank text.

    All text except white space between chunks is in a chunk; no chunk begins or ends with white space. A text that fits is one chunk. From
    the second chunk on, each begins with up to `overlap_tokens` (at most a quarter of `max_tokens`) of the
    one before, beginning at a sentence, else at a word, else (in text without spaces) at a character. Takes
    time in proportion to the text's length. Raises ValueError when `max_tokens` is below 1 or `overlap_tokens` below 0.
    """
    if max_tokens < 1 or overlap_tokens < 0:
        raise ValueError(f"a chunk of {max_tokens} tokens with {overlap_tokens} of overlap is none")
    room = max_tokens * EIGHTHS
    start, stop = _next_character(text, 0), len(text.rstrip())
    if eighths(text[start:stop]) <= room:
        return [Chunk(start, stop, text[start:stop])] if start < stop else []
    overlap = min(overlap_tokens, max_tokens // 4) * EIGHTHS
    whole = [each for each in blocks(text) if eighths(text[each.starts_at : each.ends_at]) <= room - overlap]
    bodies = list(_bodies(text, start, stop, room - overlap, whole))
    begins = [start, *(_overlap_start(text, before[0], body[0], overlap) for before, body in pairwise(bodies))]
    return [Chunk(begin, end, text[begin:end]) for begin, (_, end) in zip(begins, bodies, strict=True)]


def chunk_with_headings(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """As `chunk`; from the second chunk on, the headings above it are its head and count towards its size. The outermost headings are
    dropped when they would take too large a part."""
    room = max_tokens // PART_FOR_HEADINGS
    above = paths(text) if eighths(text.strip()) > max_tokens * EIGHTHS else []
    if not above:
        return chunk(text, max_tokens, overlap_tokens)
    first, *others = chunk(text, max_tokens - room, overlap_tokens)
    return [first, *(each._replace(head=_head(above, each, room)) for each in others)]


def _head(above: Sequence[tuple[int, list[str]]], part: Chunk, room: int) -> str:
    place = bisect_right(above, part.start, key=lambda section: section[0]) - 1
    titles = above[place][1] if place >= 0 else []
    if place >= 0 and above[place][0] == part.start:
        titles = titles[:-1]  # the chunk begins with this heading
    while titles and estimate_tokens(" > ".join(titles) + "\n\n") > room:
        titles = titles[1:]
    return " > ".join(titles) + "\n\n" if titles else ""


def _bodies(text: str, start: int, stop: int, room: int, whole: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """(start, end) of each chunk without its overlap."""
    while start < stop:
        last = _last_that_fits(text, start, stop, room)
        cut = last if last == stop else _best_cut(text, start, last, whole)
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


def _best_cut(text: str, start: int, last: int, whole: Sequence[Block]) -> int:
    first = max(start + (last - start + 1) // 2, start + 1)
    for kind in KINDS:
        cuts = [cut for cut in _cuts(kind, text, first, last) if block_around(whole, cut) is None]
        if cuts:
            return max(cuts, key=lambda cut: (_checksum(text, cut, COMPARED), cut))
    parted = block_around(whole, last)
    if parted is not None and parted.starts_at > start:
        return parted.starts_at  # it fits into the next chunk
    return _cut_between_characters(text, start, last)


def _cuts(kind: re.Pattern[str], text: str, first: int, last: int) -> list[int]:
    found = kind.finditer(text, first - 1, last + LOOK_AHEAD)
    return [cut for match in found if first <= (cut := match.end(match.lastindex or 0)) <= last]


def _checksum(text: str, position: int, length: int) -> int:
    return crc32(text[position : position + length].encode("utf-8", "surrogatepass"))


def _cut_between_characters(text: str, start: int, last: int) -> int:
    """The cut in text without white space: in the last quarter, the place with the highest checksum."""
    first = max(start + 1, last - (last - start) // 4)
    places = [place for place in range(first, last + 1) if not _is_one_character(text[place - 1], text[place])]
    return max(places, key=lambda place: _checksum(text, place, 8), default=last)


def _is_one_character(before: str, after: str) -> bool:
    """Whether the code points on both sides form one visible character: an accent, a joined emoji, a flag, a surrogate pair, a Thai vowel."""
    if after < "\u0300":
        return False
    if before in VOWELS_BEFORE or after in VOWELS_BEHIND:
        return True
    if ZERO_WIDTH_JOINER in (before, after) or unicodedata.category(after) in COMBINING:
        return True
    is_flag = "\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff"
    is_pair = "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff"
    return is_flag or is_pair or "\U0001f3fb" <= after <= "\U0001f3ff"


def _overlap_start(text: str, before: int, body: int, room: int) -> int:
    """Where the overlap of the chunk at `body` with the chunk that began at `before` starts."""
    earliest = _first_that_fits(text, before + 1, body, room)
    for kind in (SENTENCE, WORD):
        found = kind.search(text, earliest - 1, body)
        if found and (begin := _next_character(text, found.end())) < body:
            return begin
    if WORD.search(text, earliest, body):
        return body  # the word before is longer than the overlap, and part of a word has no meaning
    while earliest < body and _is_one_character(text[earliest - 1], text[earliest]):
        earliest += 1
    return earliest
