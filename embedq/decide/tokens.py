"""Estimates the number of tokens of a text, without a tokenizer.

English has about a quarter token per byte of UTF-8 with common vocabularies. Text that vocabularies cover less has more: digits,
punctuation and capitals (identifiers, tables, encoded data), and other scripts, most of all Hangul and emoji. Sizes are counted in eighths
of a token: two per byte, and more for bytes of these classes. The weights were measured with the vocabularies of BERT, cl100k and o200k on
twenty kinds of text: none of them had more than 1.7 times the estimate.
"""

from __future__ import annotations

from typing import Final

EIGHTHS: Final = 8
# For sizes that PostgreSQL counts in bytes only.
BYTES_PER_TOKEN: Final = 4
_DENSE: Final = bytes(set(range(0x21, 0x7F)) - set(b"abcdefghijklmnopqrstuvwxyz"))
_LEADS, _HANGUL, _ASTRAL = (bytes(range(*bounds)) for bounds in ((0xC3, 0xF5), (0xEA, 0xEE), (0xF0, 0xF5)))


def _marks(*classes: tuple[bytes, int]) -> bytes:
    """A table for bytes.translate that maps a byte to its class."""
    table = bytearray(256)
    for members, number in classes:
        for member in members:
            table[member] = number
    return bytes(table)


_OTHER, _OF_DENSE, _OF_LEAD, _OF_HANGUL, _OF_ASTRAL = range(5)
_CLASSES: Final = _marks((_DENSE, _OF_DENSE), (_LEADS, _OF_LEAD), (_HANGUL, _OF_HANGUL), (_ASTRAL, _OF_ASTRAL))
# Eighths that a byte of each class counts in addition to two.
_MORE: Final = {_OF_LEAD: 2, _OF_HANGUL: 6, _OF_ASTRAL: 8, _OF_DENSE: 3}


def eighths(text: str) -> int:
    """The size of a text in eighths of a token, estimated; the sizes of its parts add up to it. A lone surrogate, which UTF-8 does not have, is
    taken as three bytes. Every character has at least two."""
    classes = text.encode("utf-8", "surrogatepass").translate(_CLASSES)
    if text.isascii():
        return 2 * len(classes) + _MORE[_OF_DENSE] * classes.count(_OF_DENSE)
    return 2 * len(classes) + sum(classes.count(each) * more for each, more in _MORE.items())


def estimate_tokens(text: str) -> int:
    """Estimated tokens, rounded up; at least one, because providers charge for empty inputs too."""
    return max(1, -(-eighths(text) // EIGHTHS))
