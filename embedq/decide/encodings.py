"""The bytes of a text file -> its characters. A file whose encoding is uncertain is refused: a wrong guess would be embedded, and not be found.

In this order: the encoding that the caller names; a byte order mark; UTF-8; what the document declares; UTF-16 without a mark; what
charset-normalizer finds possible and `LETTERS` finds likely. (UTF-8 comes before the declaration because bytes that are valid UTF-8 by
chance are rare, and wrong declarations copied from templates are not.)
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Final

from ..errors import InputError

# The encoding that browsers use for a declared name (WHATWG, Encoding): usually a superset.
MEANT: Final[Mapping[str, str]] = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "tis-620": "cp874",
    "iso8859-11": "cp874",
    "big5": "big5hkscs",
}
# Python codecs that no document uses; punycode takes hours for ten megabytes.
NOT_OF_PAGES: Final = frozenset(("punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"))
MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# The first bytes of binary file formats.
SIGNATURES: Final = (
    (b"%PDF-", "a PDF"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b\x08", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!\x1a", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"SQLite format 3\0", "a database"),
    (b"OggS", "a sound"),
    (b"ID3", "a sound"),
    (b"fLaC", "a sound"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
    (b"\0asm", "a program"),
)
_CONTAINERS: Final = ((b"RIFF", 8), (b"ftyp", 4))

SAMPLE: Final = 100_000
# Control characters that no text has. Tab, line feed, form feed, carriage return and escape (terminal colours) are not among them.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROLS: Final = 0.01


def text_of(raw: bytes, *, declared: str | None = None, named: str | None = None) -> str:
    """The text, with line ends as "\\n". `declared`: the encoding that the document declares; `named`: the encoding that the caller names,
    which is final.

    Raises InputError if the bytes are not text or their encoding is uncertain; the hint names the remedy.
    """
    refuse_binary(raw)
    text = _decoded(raw, named) if named else next((text for text in _readings(raw, declared) if text is not None), None)
    if text is None:
        raise _unreadable(named)
    if len(_CONTROLS.findall(text[:SAMPLE])) > _MOST_CONTROLS * min(len(text), SAMPLE):
        raise InputError("it is no text: it is full of control characters", hint="convert it, or leave it out", field="paths")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def refuse_binary(raw: bytes) -> None:
    """Raises InputError for binary files, recognised by their first bytes."""
    kind = next((kind for signature, kind in SIGNATURES if raw.startswith(signature)), None)
    if (kind is None and any(raw[at : at + 4] == signature for signature, at in _CONTAINERS if at == 4)) or raw[:4] == b"RIFF":
        kind = "a sound or a film"
    if kind is not None:
        raise InputError(f"it is {kind}, not a text", hint="name it by its own ending, or convert it to text", field="paths")


def _unreadable(named: str | None) -> InputError:
    if named:
        return InputError(f"it is not written in {named}", hint="leave --encoding out, or name another", field="paths")
    return InputError(
        "its encoding cannot be told for sure, and a wrong guess would be garbage",
        hint="name it by --encoding, or convert it to UTF-8",
        field="paths",
    )


def known(encoding: str) -> str:
    """Python's name of a text encoding. Raises ValueError for an unknown one."""
    try:
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise ValueError(f"{encoding!r} is no encoding") from None
    if name.replace("_", "-") in NOT_OF_PAGES or not _encodes_text(name):
        raise ValueError(f"{encoding!r} is no encoding of texts")
    return MEANT.get(name, name)


def _encodes_text(name: str) -> bool:
    try:
        b"a".decode(name)
    except LookupError:
        return False
    except ValueError:
        pass  # an incomplete multi-byte character, so it is a text encoding
    return True


def _decoded(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(known(encoding))
    except ValueError:
        return None


def _readings(raw: bytes, declared: str | None) -> Iterator[str | None]:
    """The possible readings, the likeliest first."""
    mark = next((encoding for mark, encoding in MARKS if raw.startswith(mark)), None)
    if mark:
        yield _decoded(raw, mark)
    if b"\0" not in raw[:SAMPLE]:
        yield _decoded(raw, "utf-8")
        if declared:
            yield _decoded(raw, declared)
        yield _detected(raw)
        return
    for encoding, offset in (("utf-16-le", 1), ("utf-16-be", 0)):
        if raw[offset:SAMPLE:2].count(0) > len(raw[:SAMPLE]) // 5:
            yield _decoded(raw, encoding)
    yield _decoded(raw, "utf-8")


# Detection

# The most frequent letters of a script or, for Latin scripts, the letters of one language besides a to z.
CYRILLIC, GREEK, HEBREW = "оеаинтсрвл", "αοιετσνηυρ", "יוהלארתשבמ"
ARABIC, THAI = "اليمنترودب", "านรอกเงมยล่้วิีตดชให"
WESTERN: Final = tuple(
    map(
        frozenset,
        (
            "àâæçéèêëîïôœùûüÿ",
            "äöüß",
            "áéíñóúü",
            "ãáàâçéêíóôõúü",
            "àèéìíîòóùú",
            "åäöæøéü",
            "éèëïóöüá",
            "áðéíóúýþæö",
            "àçèéíïòóúü",
        ),
    )
)
CENTRAL: Final = tuple(map(frozenset, ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž")))
LATIN: Final = {"cp1252": WESTERN, "cp1250": CENTRAL, "cp1254": (frozenset("çğıöşüâîû"),)}
LETTERS: Final = {
    "cp1251": CYRILLIC,
    "koi8_r": CYRILLIC,
    "cp866": CYRILLIC,
    "cp1253": GREEK,
    "cp1255": HEBREW,
    "cp1256": ARABIC,
    "cp874": THAI,
}
# The narrow codec is used for detection, because the wide one maps more bytes to rare characters; the text is decoded with the wide one.
EASTERN: Final = {"shift_jis": "cp932", "euc_jp": "euc_jp", "euc_kr": "cp949", "gb2312": "gb18030", "big5": "big5hkscs"}
LIKELY: Final = 0.4
CLEARLY: Final = 0.1
FEWEST_LETTERS, FEWEST_OF_A_SCRIPT = 8, 16
MOST_CHAOS, MORE_CHAOS = 0.2, 0.05


def _detected(raw: bytes) -> str | None:
    """The only likely reading; None if there is none or more than one."""
    from charset_normalizer import from_bytes

    matches = list(from_bytes(raw[:SAMPLE], cp_isolation=[*LATIN, *LETTERS, *_WIDE], threshold=MOST_CHAOS))
    least = min((match.chaos for match in matches), default=0.0)
    possible = {name for match in matches if match.chaos <= least + MORE_CHAOS for name in match.could_be_from_charset}
    eastern = _eastern(raw[:SAMPLE]) if possible & set(_WIDE) else None
    if eastern:
        return _decoded(raw, eastern)
    likely = sorted(((_share(raw, name, letters), name) for name, letters in LETTERS.items() if name in possible), reverse=True)
    if likely and likely[0][0] >= LIKELY and (len(likely) == 1 or likely[0][0] - likely[1][0] >= CLEARLY):
        return _decoded(raw, likely[0][1])
    latin = {text for name, alphabets in LATIN.items() if name in possible and (text := _in_alphabet(raw, name, alphabets))}
    return latin.pop() if len(latin) == 1 else None


_WIDE: Final = ("cp932", "euc_jp", "cp949", "gb18030", "big5")


def _share(raw: bytes, encoding: str, letters: str) -> float:
    """The share of common letters among the non-ASCII characters; 0 if there are too few, or capitals in unlikely places."""
    text = _decoded(raw[:SAMPLE], encoding) or ""
    found = [letter for letter in text if letter > "\x7f" and not letter.isspace()]
    if (
        sum(map(str.isalpha, found)) < FEWEST_OF_A_SCRIPT
        or sum(map(str.isupper, found)) > len(found) / 2
        or _has_odd_capital(text)
    ):
        return 0.0
    lower = [letter.lower() for letter in found]
    return sum(map(lower.count, letters)) / len(found)


# A sign after two letters, which no word of a Latin script has.
_NO_WORD: Final = re.compile(r"[^\W\d_]{2}[\x80-\xbf]")
MOST_MARKED: Final = 0.35


def _in_alphabet(raw: bytes, encoding: str, alphabets: tuple[frozenset[str], ...]) -> str | None:
    """The decoded text if its letters besides a to z all belong to one language and are few enough for a Latin script, else None."""
    text = _decoded(raw, encoding) or ""
    lower = text.lower()
    counts = {letter: lower.count(letter) for letter in set(lower) if letter.isalpha()}
    marked = {letter for letter in counts if letter > "\x7f"}
    if (
        sum(map(counts.__getitem__, marked)) > MOST_MARKED * sum(counts.values())
        or _NO_WORD.search(text)
        or _has_odd_capital(text)
    ):
        return None
    return text if any(marked <= alphabet for alphabet in alphabets) else None


# Two characters, of which one at least is not ASCII. Found by the expression, because a text may have millions of the others.
_PAIR: Final = re.compile(r"(?=([^\x00-\x7f].|.[^\x00-\x7f]))", re.DOTALL)


def _has_odd_capital(text: str) -> bool:
    """Whether a capital follows a small letter, unless both are a to z, as in names of programs."""
    return any(pair[1][0].islower() and pair[1][1].isupper() for pair in _PAIR.finditer(text))


def _eastern(raw: bytes) -> str | None:
    """The likeliest of the two-byte encodings. The same bytes may be a common character in one and a rare one in another."""
    for narrow, wide in EASTERN.items():
        text = _narrowly(raw, narrow)
        if text and _is_usual(narrow, [letter for letter in text if letter > "\x7f"]):
            return wide
    return None


def _narrowly(raw: bytes, narrow: str) -> str | None:
    """Decode a sample, which may end within a character."""
    try:
        return codecs.getincrementaldecoder(narrow)().decode(raw)
    except ValueError:
        return None


def _is_usual(narrow: str, letters: list[str]) -> bool:
    if len(letters) < FEWEST_LETTERS:
        return False
    kana = sum("\u3041" <= letter <= "\u30fc" for letter in letters) / len(letters)
    hangul = sum("\uac00" <= letter <= "\ud7a3" for letter in letters) / len(letters)
    han = [letter for letter in letters if "\u4e00" <= letter <= "\u9fff"]
    match narrow:
        case "shift_jis" | "euc_jp":
            return kana > 0.2
        case "euc_kr":
            return hangul > 0.85
        case _:
            return len(han) > 0.6 * len(letters) and sum(
                letter.encode(narrow)[0] < LEVEL_ONE[narrow] for letter in han
            ) > 0.9 * len(han)


# First bytes from which the rarer characters begin.
LEVEL_ONE: Final = {"gb2312": 0xD8, "big5": 0xC9}
