"""Splits text into the terms that the hashing provider counts. Pure functions; the same in every process and Python version.

A term is a stemmed word, a part of an identifier (`zipfile` -> zip, file; `HTTPServer` -> http, server), a pair of
neighbouring characters of a script written without spaces, or a symbol. Callers pass only the first `MAX_CHARACTERS` of a text, which
bounds the work.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

MAX_CHARACTERS: Final = 200_000

_WORD: Final = re.compile(r"[^\W_]{1,64}|[^\w\s\x00-\x7f]")
_CAMEL: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
)
_VOWEL: Final = re.compile("[aeiouy]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS: Final = _words(
    """a about above after again all also am an and any are aren as at be because been before being below between both but
    by can cannot could couldn did didn do does doesn doing don done down during each either etc every few for from further
    get gets given gives had hadn has hasn have haven having he her here hers him his how however i if in instead into is
    isn it its itself just ll made make makes many may me might more most much must mustn my need needs neither no nor not
    of off on once one only onto or other others otherwise our ours out over own per re same several shall she should shouldn
    since so some such than that the their theirs them themselves then there these they this those though through thus to too
    two under until up upon us use used uses using ve very via want wants was wasn way we well were weren what when where
    whether which while who whom whose why will with within without won would wouldn yet you your yours"""
)

# Words that are joined in identifiers and separate in questions.
_PARTS: Final = _words(
    """arg back base buffer cache call char check class clean client code command config context copy count counter data
    date dict dir error event exec file find format func get group handler hash header host html http index info init
    input iter join key lib line link list load lock log mail map mark mem message method mod mode name net node num object
    open option out output pack parse parser part pass path pipe point poll pool port print proc process prop queue read
    reader ref reg remove request rest return root row run save scan search select send server set shell size sock socket
    sort sound split stack start stat state stop store str stream string struct sub sum system table tar task temp term test
    text thread time token trace tree tuple type unit update url user util value view walk web word work worker wrap write
    writer xml zip zone"""
)

# Abbreviations of identifiers, and the words that people search for.
_LONG_FORMS: Final = {
    "arg": "argument",
    "args": "argument",
    "char": "character",
    "chars": "character",
    "cmd": "command",
    "config": "configuration",
    "dict": "dictionary",
    "dir": "directory",
    "dirs": "directory",
    "exec": "execute",
    "func": "function",
    "info": "information",
    "int": "integer",
    "iter": "iterate",
    "lib": "library",
    "mem": "memory",
    "msg": "message",
    "num": "number",
    "param": "parameter",
    "params": "parameter",
    "proc": "process",
    "rand": "random",
    "regex": "regular expression",
    "regexp": "regular expression",
    "str": "string",
    "sub": "sub",
    "temp": "temporary",
    "tmp": "temporary",
}

# Suffixes, longest first: the first that matches is removed.
_SUFFIXES: Final = (
    "izations",
    "ization",
    "ations",
    "ation",
    "ators",
    "ator",
    "ments",
    "ingly",
    "ings",
    "ions",
    "ing",
    "ion",
    "ors",
    "ers",
    "ies",
    "ied",
    "ed",
    "er",
    "or",
    "ly",
    "es",
    "s",
    "y",
    "e",
)


def terms(text: str) -> list[str]:
    """The terms of a text in order, stop words included. Empty only when the text is empty or blank."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    found = [term for word in _WORD.findall(text) for term in terms_of_word(word)]
    return found or [character for character in text if not character.isspace()]


@lru_cache(maxsize=65_536)
def terms_of_word(word: str) -> tuple[str, ...]:
    """The terms of one word as written."""
    if _UNSPACED.search(word):
        return tuple(word[i : i + 2] for i in range(len(word) - 1)) or (word,)
    pieces = [piece.lower() for piece in _CAMEL.findall(word)] if word.isascii() else [word.casefold()]
    apart = [part for piece in pieces for part in _split_compound(piece)]
    joined = [stem(word.lower())] if len(apart) > 1 else []
    return (*(stem(long) for part in apart for long in _LONG_FORMS.get(part, part).split()), *joined)


def _split_compound(word: str) -> tuple[str, ...]:
    """`zipfile` -> zip, file; `argparse` -> arg, parse; a word with no known part at both ends stays whole."""
    for cut in range(3, min(len(word) - 2, 16)):
        if word[:cut] in _PARTS and word[cut:] in _PARTS:
            return word[:cut], word[cut:]
    return (word,)


def stem(word: str) -> str:
    """Remove one suffix: compress, compressed, compression and compressor become one term. English only, approximate."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    for suffix in _SUFFIXES:
        if word.endswith(suffix):
            return _without(word, suffix)
    return word


def _without(word: str, suffix: str) -> str:
    rest = word[: -len(suffix)]
    if len(rest) < 3 or not _VOWEL.search(rest) or (suffix == "s" and rest[-1] in "sui"):
        return word
    if len(suffix) > 1 and rest[-1] == rest[-2] and rest[-1] not in "lsz":
        return rest[:-1]
    return rest


# Stems that are so frequent in texts about software that they distinguish little.
COMMON_TERMS: Final = frozenset(
    map(
        stem,
        _words(
            """argument call class code data default element error example file function given instance item key list method
            module name new none number object optional option order parameter python raise return set specified string
            support true type value"""
        ),
    )
)
