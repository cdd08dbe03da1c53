"""How a long text is cut into chunks, and how little of that an edit changes."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.tokens import eighths, estimate_tokens
from embedq.engine.chunking import Chunk, chunk

FEW = "ab .!?\n#=。日é\u0301\u200d👍🏽\ud800\udc00\t\u00a0"
awkward = st.text(st.sampled_from(FEW), max_size=400) | st.text(max_size=200)
rooms = st.integers(1, 30)
overlaps = st.integers(0, 10)


def sentence(dice: random.Random, words: int) -> str:
    return " ".join("".join(dice.choices("abcdefghij", k=dice.randint(2, 9))) for _ in range(words)).capitalize() + "."


def paragraphs(seed: int, count: int = 200) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(sentence(dice, dice.randint(4, 20)) for _ in range(dice.randint(1, 6))) for _ in range(count)]


def texts_of(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[str]:
    return [part.text for part in chunk(text, max_tokens, overlap_tokens)]


@given(awkward, rooms, overlaps)
def test_a_chunk_is_the_stretch_of_the_text_that_it_says(text: str, max_tokens: int, overlap_tokens: int) -> None:
    assert all(text[part.start : part.end] == part.text for part in chunk(text, max_tokens, overlap_tokens))


@given(awkward, rooms, overlaps)
def test_no_chunk_is_over_the_limit_or_blank_or_begins_or_ends_in_white_space(
    text: str, max_tokens: int, overlap_tokens: int
) -> None:
    for part in texts_of(text, max_tokens, overlap_tokens):
        assert estimate_tokens(part) <= max_tokens or len(part) == 1
        assert part
        assert part == part.strip()


@given(awkward, rooms, overlaps)
def test_everything_but_white_space_is_in_a_chunk(text: str, max_tokens: int, overlap_tokens: int) -> None:
    left = list(text)

    for part in chunk(text, max_tokens, overlap_tokens):
        left[part.start : part.end] = " " * len(part.text)

    assert not "".join(left).strip()


@given(awkward, rooms, overlaps)
def test_chunks_follow_one_another_and_none_lies_in_another(text: str, max_tokens: int, overlap_tokens: int) -> None:
    for earlier, later in pairwise(chunk(text, max_tokens, overlap_tokens)):
        assert earlier.start < later.start
        assert earlier.end < later.end


@given(awkward, rooms)
def test_without_overlap_no_character_is_in_two_chunks(text: str, max_tokens: int) -> None:
    assert all(earlier.end <= later.start for earlier, later in pairwise(chunk(text, max_tokens)))


@given(awkward, rooms, overlaps)
def test_an_overlap_takes_up_no_more_than_it_may(text: str, max_tokens: int, overlap_tokens: int) -> None:
    for earlier, later in pairwise(chunk(text, max_tokens, overlap_tokens)):
        shared = text[later.start : earlier.end]
        assert not shared or estimate_tokens(shared) <= min(overlap_tokens, max_tokens // 4)


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        pytest.param("", [], id="nothing is no chunk"),
        pytest.param(" \n\t ", [], id="white space is no chunk"),
        pytest.param("\n tea \n", [Chunk(2, 5, "tea")], id="a short text is one chunk"),
        pytest.param("x" * 40, [Chunk(0, 40, "x" * 40)], id="a text that just fits is one chunk"),
    ],
)
def test_short_texts(text: str, chunks: list[Chunk]) -> None:
    assert chunk(text, max_tokens=10) == chunks


@pytest.mark.parametrize(
    ("text", "first"),
    [
        pytest.param("One two.\n\nThree four.\n# Five six\n\nSeven eight nine ten.", "One two.\n\nThree four.", id="a heading"),
        pytest.param(
            "One two.\n\nThree four.\nFive\n====\nSeven eight nine.", "One two.\n\nThree four.", id="an underlined heading"
        ),
        pytest.param("One two three four.\n\nFive. Six seven eight nine ten.", "One two three four.", id="then a paragraph"),
        pytest.param("One two three four five. Six\nseven eight nine ten.", "One two three four five.", id="then a sentence"),
        pytest.param("One (two three four five.) Six\nseven eight nine.", "One (two three four five.)", id="with its bracket"),
        pytest.param("二三四五六七。八九十二三四五六七八九", "二三四五六七。", id="also where no space follows one"),
        pytest.param("one two three four five\nsix seven eight nine", "one two three four five", id="then a line"),
        pytest.param("onetwothreefourfive sixseveneightnineten", "onetwothreefourfive", id="then a word"),
    ],
)
def test_the_best_place_in_the_second_half_of_the_room_is_the_cut(text: str, first: str) -> None:
    assert texts_of(text, max_tokens=8)[0] == first


def test_a_line_of_fifty_thousand_tokens_without_a_space_is_cut_all_the_same() -> None:
    text = "".join(random.Random(7).choices("abcdefghijklmnop", k=200_000))

    parts = texts_of(text, max_tokens=2000)

    assert "".join(parts) == text
    assert min(len(part) for part in parts[:-1]) >= 5999


@pytest.mark.parametrize(
    "character",
    [
        pytest.param("e\u0301", id="a letter and its accent"),
        pytest.param("👍🏽", id="an emoji and its colour"),
        pytest.param("👩\u200d🚀", id="a joined emoji"),
        pytest.param("\ud83d\udc4d", id="a surrogate pair"),
    ],
)
def test_what_a_reader_sees_as_one_character_is_not_cut(character: str) -> None:
    parts = chunk(character * 200, max_tokens=13, overlap_tokens=3)

    assert len(parts) > 10
    assert all(part.start % len(character) == part.end % len(character) == 0 for part in parts)


def test_an_accent_repeated_for_ever_is_cut_in_the_end() -> None:
    assert "".join(texts_of("\u0301" * 500, max_tokens=10)) == "\u0301" * 500


def test_an_overlap_begins_with_a_sentence() -> None:
    text = " ".join(paragraphs(seed=1, count=20))

    for earlier, later in pairwise(chunk(text, max_tokens=200, overlap_tokens=50)):
        assert later.start < earlier.end
        assert text[: later.start].rstrip().endswith(".")


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        pytest.param("Aaaaa bbbbb ccccc ddddd eeeee ff ggg. Hhh. Uuuuu jjjjj kkkkk lllll mmmmm", "Hhh.", id="with a sentence"),
        pytest.param("Aaa bbb ccc ddd eee fff ggg hhh iii jjj k. Lll mmm nnn ooo ppp qqq", "iii jjj k.", id="or a word"),
        pytest.param("一二三四五六七八。二三。五四五六七八九十一二三四", "二三。", id="also of characters of three bytes"),
        pytest.param(f"{'a' * 30} {'b' * 30} {'c' * 30}", "", id="not half a word"),
        pytest.param("abcdefghijklmnop" * 5, "klmnopabcdefghij", id="or between characters"),
    ],
)
def test_an_overlap_begins_as_well_as_it_can(text: str, shared: str) -> None:
    first, second = chunk(text, max_tokens=16, overlap_tokens=4)[:2]

    assert text[second.start : first.end] == shared


def test_an_overlap_within_a_long_sentence_begins_with_a_word() -> None:
    text = sentence(random.Random(1), words=2000)

    for earlier, later in pairwise(chunk(text, max_tokens=200, overlap_tokens=50)):
        assert later.start < earlier.end
        assert text[later.start - 1] == " "


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("overlap_tokens", [0, 40])
def test_an_edit_near_the_beginning_leaves_most_later_chunks_as_they_were(seed: int, overlap_tokens: int) -> None:
    written = paragraphs(seed)
    before = set(texts_of("\n\n".join(written), 300, overlap_tokens))

    written[2] = f"Something was added here. {written[2]}"
    after = texts_of("\n\n".join(written), 300, overlap_tokens)

    assert len(after) > 40
    assert sum(text not in before for text in after) <= 10


@pytest.mark.parametrize("seed", range(12))
def test_an_edit_near_the_end_leaves_every_earlier_chunk_as_it_was(seed: int) -> None:
    written = paragraphs(seed)
    before = texts_of("\n\n".join(written), 300)

    written[-2] = f"Something was added here. {written[-2]}"
    after = texts_of("\n\n".join(written), 300)

    assert before[:-6] == after[: len(before) - 6]


def test_an_edit_changes_one_chunk_or_two_on_average() -> None:
    changed = []
    for seed in range(30):
        written = paragraphs(seed)
        before = set(texts_of("\n\n".join(written), 300))
        written[2] = f"Something was added here. {written[2]}"
        changed.append(sum(text not in before for text in texts_of("\n\n".join(written), 300)))

    assert sum(changed) / len(changed) <= 3


def test_ten_million_characters_are_nothing_special() -> None:
    text = "".join(f"{line} The kettle sings.\n\n" for line in range(400_000))

    parts = chunk(text, max_tokens=2000, overlap_tokens=100)

    assert len(text) > 9_000_000
    assert parts[-1].end == len(text) - 2


@pytest.mark.parametrize(("max_tokens", "overlap_tokens"), [(0, 0), (10, -1)])
def test_an_impossible_size_is_a_mistake(max_tokens: int, overlap_tokens: int) -> None:
    with pytest.raises(ValueError, match="is none"):
        chunk("tea", max_tokens, overlap_tokens)


@given(st.text(), st.text())
def test_the_sizes_of_parts_add_up_and_every_character_has_one(one: str, other: str) -> None:
    assert eighths(one + other) == eighths(one) + eighths(other)
    assert eighths(one) >= 2 * len(one)
    assert estimate_tokens(one) == max(1, -(-eighths(one) // 8))


# Tokens as BERT's, cl100k's and o200k's vocabularies count them, the most of the three.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("550e8400-e29b-41d4-a716-446655440000 ", 27, id="an identifier"),
        pytest.param("물을 끓여 찻잎에 붓고 삼 분 동안 기다립니다. ", 31, id="Korean"),
        pytest.param("| 12 | 7 | 93 |\n+---+---+---+", 22, id="a grid"),
        pytest.param("将水烧开，然后放入茶叶。", 14, id="Chinese"),
        pytest.param("Чайник наполняют свежей водой", 27, id="Russian"),
        pytest.param("QWZRTP XKLMNB VVTGHA", 11, id="capitals"),
        pytest.param("Green tea is steeped in hot water.", 9, id="English"),
    ],
)
def test_the_estimate_is_right_within_a_factor_for_every_script(text: str, tokens: int) -> None:
    many = estimate_tokens(text * 20)

    assert tokens * 20 / 1.7 <= many <= tokens * 20 * 1.7
