"""The sections of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.sections import section_of, sections

MARKDOWN = "# Tea\n\nHow\n\n## Green\n\nSeventy\n\n## Black ##\nBoiling\n# Coffee\nGrind\n"
RST = "Tea\n===\n\nHow\n\nGreen\n-----\nSeventy\n\nBlack\n-----\nBoiling\n\nCoffee\n======\nGrind\n"


@pytest.mark.parametrize("text", [MARKDOWN, RST], ids=["Markdown", "reStructuredText"])
def test_a_section_ends_where_one_of_its_level_begins(text: str) -> None:
    found = {each.title: text[each.starts_at : each.ends_at] for each in sections(text)}

    assert [(each.title, each.level) for each in sections(text)] == [("Tea", 1), ("Green", 2), ("Black", 2), ("Coffee", 1)]
    assert "Boiling" in found["Tea"]
    assert "Grind" not in found["Tea"]
    assert "Seventy" in found["Green"]
    assert "Boiling" not in found["Green"]


@pytest.mark.parametrize("title", ["green", " GREEN ", "Green"])
def test_a_section_is_found_whatever_its_case(title: str) -> None:
    found = section_of(MARKDOWN, title)

    assert found is not None
    assert found.title == "Green"


@pytest.mark.parametrize("text", ["", "plain text", "----\n\n----\n", "a\n==\n", "#hashtag\n"])
def test_a_text_without_headings_has_no_sections(text: str) -> None:
    assert sections(text) == []


@given(st.text(alphabet="#=-ab \n\r\x0b\u2028", max_size=80))
def test_sections_are_in_order_and_within_the_text(text: str) -> None:
    found = sections(text)

    assert all(0 <= each.starts_at < each.ends_at <= len(text) for each in found)
    assert [each.starts_at for each in found] == sorted(each.starts_at for each in found)
