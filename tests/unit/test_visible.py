"""What is escaped of a text for people, and what stays."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq import visible

# Marks that are drawn around the digits behind them: their category is that of invisible ones, and they are visible.
DRAWN = {*map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))}
JOINERS = "\u200c\u200d"
# Texts in which what is to be escaped is as frequent as what is not.
TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\n\r\t\x7f\x85\x9b\u061c\u202e\u2028\u2066\ufeff\ud800" + JOINERS + "aé\\"))
)


def is_seen(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in DRAWN


def test_each_character_that_is_obeyed_or_cannot_be_seen_is_escaped():
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        assert is_seen(character) or visible.line(character) == ascii(character)[1:-1], hex(number)


@given(TEXTS)
def test_a_line_is_one_line_without_what_is_obeyed_or_invisible(text: str):
    line = visible.line(text)

    assert all(is_seen(each) or each in JOINERS for each in line)
    assert len(line.splitlines()) <= 1
    assert visible.line(line) == line
    line.encode()


@given(TEXTS)
def test_a_block_keeps_its_tabs_and_lines_and_nothing_else(text: str):
    block = visible.block(text)

    assert all(is_seen(each) or each in JOINERS + "\n\t" for each in block)
    assert block.count("\n") == text.count("\n")
    assert [visible.line(line) for line in block.split("\n")] == [line.replace("\t", "\\t") for line in block.split("\n")]


@given(
    st.recursive(TEXTS | st.integers(), lambda each: st.lists(each) | st.dictionaries(TEXTS, each)), st.sampled_from([None, 2])
)
def test_json_says_the_same_and_is_visible(value: object, indent: int | None):
    document = visible.in_json(json.dumps(value, ensure_ascii=False, indent=indent))

    assert json.loads(document) == json.loads(json.dumps(value))
    assert visible.block(document) == document


@given(st.text(st.characters(categories=["L", "N", "P", "S"], max_codepoint=0x2FF, exclude_characters="\u00ad")))
def test_what_can_be_seen_stays_as_it_is(text: str):
    assert visible.line(text) == visible.block(text) == text


@pytest.mark.parametrize("text", ["می‌خواهم", "👩‍❤️‍👨", "क्‍ष", "naïve ½ 日本語", "C:\\new"])
def test_scripts_and_emoji_stay_as_they_are(text: str):
    assert visible.line(text) == text


@pytest.mark.parametrize("text", ["te\u200ca", "a\u200d", "\u200dé", "é\u200d\u200dé", "é\u200d\u202eé"])
def test_joiners_that_join_nothing_are_escaped(text: str):
    assert "\\u200" in visible.line(text)


def test_ends_of_lines_of_other_systems_are_lines():
    assert visible.block("one\r\ntwo\rthree") == "one\ntwo\\rthree"
