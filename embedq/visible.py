"""Text for people, with everything escaped that a terminal obeys or that cannot be seen.

Titles, reasons, errors, names and ids come from other programs and other people. Written as they are, ESC clears a terminal, a newline
forges a line of a log, and U+202E turns the rest of a line around. Escaped are the controls C0, DEL and C1; what ends a line (U+2028,
U+2029); what turns its direction (U+061C, U+200E, U+200F, U+202A-E, U+2066-9); lone surrogates; and what has no width: Unicode's
Default_Ignorable_Code_Point, the marks of interlinear annotation and the joiners of hieroglyphs. Variation selectors stay: they change
only the look of the character before them. Joiners (U+200C, U+200D) stay between two characters that are not ASCII, where emoji and some
scripts need them.

A backslash stays as it is: text that was escaped before is not changed, and an escape is for reading, not for reading back (`--json` is).
Source: Unicode 15, DerivedCoreProperties.txt.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE: Final = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0"
    r"\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_JOINERS: Final = r"\u200c\u200d"
_JOINED: Final = rf"[^\x00-\x7f\x80-\x9f{_INVISIBLE}{_JOINERS}]"
_LONE_JOINER: Final = rf"(?<!{_JOINED})[{_JOINERS}]|[{_JOINERS}](?!{_JOINED})"
_IN_A_BLOCK: Final = re.compile(rf"[{_CONTROLS}{_INVISIBLE}]|{_LONE_JOINER}")
_IN_A_LINE: Final = re.compile(rf"[\t\n{_CONTROLS}{_INVISIBLE}]|{_LONE_JOINER}")


def line(text: str) -> str:
    """The text on one line."""
    return _IN_A_LINE.sub(lambda found: ascii(found[0])[1:-1], text)


def block(text: str) -> str:
    """The text with its tabs and its ends of lines, which are all `\\n` in the result."""
    return _IN_A_BLOCK.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def in_json(document: str) -> str:
    """The same JSON document, escaped within its strings. Outside of strings JSON allows only line ends and tabs of these characters; they stay."""
    return _IN_A_BLOCK.sub(lambda found: _utf16(found[0]), document)


def _utf16(character: str) -> str:
    raw = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{raw[at : at + 4]}" for at in range(0, len(raw), 4))
