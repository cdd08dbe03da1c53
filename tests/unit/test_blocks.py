"""Code blocks and tables: where they are, and that they are not cut where they fit; headings above a passage; ends of sentences in many scripts."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.blocks import Block, block_around, blocks
from embedq.decide.sections import path_at, sections
from embedq.decide.tokens import estimate_tokens
from embedq.engine.chunking import chunk, chunk_with_headings

FENCED = "Before.\n\n```python\n# no heading\nx = 1\n```\n\nAfter."
TILDES = "~~~~\ncode\n~~~\nstill code\n~~~~\nafter"
TABLE = "Before\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nAfter"
HTML = "<p>Before</p><table class='x'><tr><td>1</td></tr></table> and <PRE>code\n# no heading</PRE> after"


def stretches(text: str) -> list[str]:
    return [text[each.starts_at : each.ends_at] for each in blocks(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(FENCED, ["```python\n# no heading\nx = 1\n```"], id="a fence"),
        pytest.param(TILDES, ["~~~~\ncode\n~~~\nstill code\n~~~~"], id="a longer fence around a shorter one"),
        pytest.param("a\n```\nnever ends\n", ["```\nnever ends"], id="a fence that nothing ends"),
        pytest.param(TABLE, ["| a | b |\n|---|---|\n| 1 | 2 |"], id="a table"),
        pytest.param("| one line |\n", [], id="one line is no table"),
        pytest.param(HTML, ["<table class='x'><tr><td>1</td></tr></table>", "<PRE>code\n# no heading</PRE>"], id="HTML"),
        pytest.param("<table> that never ends", [], id="a tag that nothing ends"),
        pytest.param("```\n| a |\n| b |\n```", ["```\n| a |\n| b |\n```"], id="a table in code is code"),
        pytest.param("plain < text | of > words", [], id="none"),
    ],
)
def test_code_and_tables_are_found(text: str, found: list[str]) -> None:
    assert stretches(text) == found


@given(st.text(st.sampled_from("`~|<>/pretabl \n#a"), max_size=300))
def test_blocks_are_in_order_within_the_text_and_apart(text: str) -> None:
    found = blocks(text)

    assert all(0 <= each.starts_at < each.ends_at <= len(text) for each in found)
    assert all(one.ends_at <= other.starts_at for one, other in pairwise(found))


@pytest.mark.parametrize("hostile", ["<pre>", "```\n", "~~~a\n", "|a|\n|", "| \n", "<table ", "</pre>", "<table></pre>"])
def test_a_text_made_to_take_long_takes_time_in_proportion(hostile: str) -> None:
    def seconds(times: int) -> float:
        began = time.perf_counter()
        blocks(hostile * times)
        return time.perf_counter() - began

    short, long = min(seconds(2_000) for _ in range(3)), min(seconds(16_000) for _ in range(3))

    assert long < max(0.02, short) * 24


def test_a_cut_at_its_edges_parts_no_block() -> None:
    found = [Block(10, 20, True)]

    assert [block_around(found, place) is not None for place in (9, 10, 11, 19, 20, 21)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


CODE = "```\n" + "\n".join(f"line_{number} = {number}" for number in range(12)) + "\n```"
GRID = "\n".join(f"| {number} | {number} |" for number in range(14))


@pytest.mark.parametrize("whole", [CODE, GRID, f"<pre>{CODE[4:-4]}</pre>"], ids=["code", "table", "HTML"])
@pytest.mark.parametrize("before", range(1, 60, 7))
def test_what_fits_into_a_chunk_is_whole_in_one(whole: str, before: int) -> None:
    text = f"{'Words of a sentence. ' * before}\n\n{whole}\n\n{'More words follow. ' * 40}"

    parts = chunk(text, max_tokens=150)

    assert any(whole in part.text for part in parts), [part.text for part in parts]


def test_what_does_not_fit_is_cut_all_the_same() -> None:
    text = "```\n" + "\n".join(f"line_{number} = {number}" for number in range(300)) + "\n```"

    parts = chunk(text, max_tokens=100)

    assert len(parts) > 5
    assert "".join(part.text for part in parts).replace("\n", "") == text.replace("\n", "")


PAGE = "Top\n\n# Tea\n\nAbout tea.\n\n## Green\n\nSeventy.\n\n```\n# no heading\n```\n\nStill green.\n\n## Black\n\nBoiling.\n\n# Coffee\n\nGround."


@pytest.mark.parametrize(
    ("passage", "path"),
    [
        ("Top", []),
        ("About tea", ["Tea"]),
        ("Seventy", ["Tea", "Green"]),
        ("Still green", ["Tea", "Green"]),
        ("## Black", ["Tea", "Black"]),
        ("Ground", ["Coffee"]),
    ],
)
def test_the_headings_above_a_passage(passage: str, path: list[str]) -> None:
    assert path_at(PAGE, PAGE.index(passage)) == path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param(
            "<h1>Tea &amp; <em>more</em></h1>\n<p>x</p>\n<h2 id=a>Green</h2>\nhere", ["Tea & more", "Green"], id="HTML"
        ),
        pytest.param("Tea\n===\n\nGreen\n-----\n\nhere", ["Tea", "Green"], id="underlined"),
        pytest.param("# \n\nhere", [], id="an empty heading"),
        pytest.param("### Deep\n\n# High\n\nhere", ["High"], id="a higher one ends a deeper one"),
        pytest.param(f"# {'x' * 150}\n\n## {'y' * 100}\n\nhere", ["y" * 100], id="a long path loses its outermost"),
        pytest.param("here", [], id="none"),
    ],
)
def test_headings_of_every_kind(text: str, path: list[str]) -> None:
    assert path_at(text, text.index("here")) == path


def test_a_line_of_code_is_no_section() -> None:
    assert [each.title for each in sections(PAGE)] == ["Tea", "Green", "Black", "Coffee"]


@given(st.text(alphabet="#=-ab <h1>/\n\r\x0b\u2028`", max_size=80), st.integers(0, 80))
def test_any_text_has_a_path_at_any_place(text: str, place: int) -> None:
    assert all(title in text or "<" in text for title in path_at(text, place))


@pytest.mark.parametrize(
    ("sentence", "following"),
    [
        pytest.param("这是第一句话，说的是茶叶的事情。", "后面还有很多很多很多很多很多的字", id="Chinese"),
        pytest.param(
            "これは最初の文で、お茶の話です！」",
            "そのあとにも続く文章がたくさんあります",
            id="Japanese, with its quotation mark",
        ),
        pytest.param("ｺﾚﾊﾋﾄﾂﾒﾉﾌﾞﾝﾃﾞｽ｡", "ｿﾉｱﾄﾆﾓﾂﾂﾞｸﾌﾞﾝｼｮｳｶﾞｱﾘﾏｽ", id="Japanese of half width"),
        pytest.param("हरी चाय गर्म पानी में डाली जाती है।", "इसके बाद और भी बहुत कुछ लिखा हुआ", id="Hindi"),
        pytest.param("هل الشاي الأخضر ساخن؟", "بعد ذلك هناك المزيد من الكلام", id="Arabic"),
        pytest.param("តែបៃតងត្រូវបានញ៉ាំ។", "បន្ទាប់ពីនោះមានច្រើនទៀត", id="Khmer"),
    ],
)
def test_sentences_of_scripts_with_marks_of_their_own_are_not_parted(sentence: str, following: str) -> None:
    """Where no paragraph and no line ends, a chunk ends with a sentence."""
    parts = chunk(f"{sentence}{following * 20}", max_tokens=estimate_tokens(sentence) * 5 // 4)

    assert any(part.text.endswith(sentence) for part in parts), [part.text for part in parts]


def test_without_sentences_chinese_is_cut_at_a_clause() -> None:
    text = "，".join(["一二三四五六七八九十"] * 60)

    parts = chunk(text, max_tokens=100)

    assert len(parts) > 4
    assert all(part.text.endswith("，") for part in parts[:-1])


def test_thai_syllables_are_not_parted() -> None:
    text = "ชาเขียวแช่ในน้ำร้อนแล้วรอสามนาทีไม่ควรต้มใบชาโดยตรงเพราะจะทำให้ขม" * 30

    parts = chunk(text, max_tokens=60)

    assert len(parts) > 10
    for earlier, later in pairwise(parts):
        assert text[earlier.end - 1] not in "เแโใไ", earlier.text[-5:]
        assert text[later.start] not in "ะาำัิีึืุู็่้๊๋์", later.text[:5]


def test_thai_is_cut_at_its_spaces_first() -> None:
    text = " ".join(["ชาเขียวแช่ในน้ำร้อนแล้วรอสามนาที"] * 40)

    parts = chunk(text, max_tokens=120)

    assert len(parts) > 4
    assert all(text[part.end : part.end + 1] in ("", " ") for part in parts)


def test_each_chunk_but_the_first_has_the_headings_above_it_as_its_head() -> None:
    sections = [f"## Part {number}\n\n{'Words of a sentence. ' * 30}" for number in range(6)]
    text = "# The book\n\n" + "\n\n".join(sections)

    first, *others = chunk_with_headings(text, max_tokens=120, overlap_tokens=0)

    assert first.head == ""
    assert len(others) > 6
    for part in others:
        above = path_at(text, part.start)
        inside = above[:-1] if part.text.startswith("## ") else above
        assert part.head == " > ".join(inside) + "\n\n"
        assert text[part.start : part.end] == part.text
        assert estimate_tokens(part.embedded) <= 120


def test_headings_take_no_more_than_a_part_of_a_chunk() -> None:
    text = f"# {'Long words in a heading ' * 6}\n\n## Short\n\n{'Words of a sentence. ' * 200}"

    parts = chunk_with_headings(text, max_tokens=80)

    assert {part.head for part in parts[1:]} <= {"", "Short\n\n"}
    assert any(part.head for part in parts)
    assert all(estimate_tokens(part.embedded) <= 80 for part in parts)


@pytest.mark.parametrize("text", ["# A heading\n\nshort", "Words of a sentence. " * 100], ids=["one chunk", "no headings"])
def test_without_need_for_them_chunks_are_as_usual(text: str) -> None:
    assert chunk_with_headings(text, 80, 10) == chunk(text, 80, 10)
