"""Measures of a ranking over judged questions."""

from __future__ import annotations

from math import log2

import pytest

from embedq.decide.quality import Judged, places, read, score, won_and_lost
from embedq.errors import InputError


def test_places_are_those_of_the_right_articles_by_any_of_their_names():
    ranking = [("id1", "tea"), ("id2", ""), ("id3", "zip")]

    assert places(ranking, ["zip", "id1", "nowhere"]) == [1, 3]


@pytest.mark.parametrize(
    ("found", "right", "hits", "mrr", "ndcg"),
    [
        pytest.param([[1]], [1], (1, 1, 1), 1.0, 1.0, id="first"),
        pytest.param([[3]], [1], (0, 1, 1), 1 / 3, 1 / log2(4), id="third"),
        pytest.param([[10]], [1], (0, 0, 1), 0.1, 1 / log2(11), id="tenth"),
        pytest.param([[]], [1], (0, 0, 0), 0.0, 0.0, id="not found"),
        pytest.param([[1, 2]], [2], (1, 1, 1), 1.0, 1.0, id="both that there are"),
        pytest.param([[2]], [2], (0, 1, 1), 0.5, (1 / log2(3)) / (1 + 1 / log2(3)), id="one of two"),
        pytest.param([[1], []], [1, 1], (0.5, 0.5, 0.5), 0.5, 0.5, id="the mean of questions"),
        pytest.param([], [], (0, 0, 0), 0.0, 0.0, id="no question"),
    ],
)
def test_a_score_is_what_the_definitions_say(found, right, hits, mrr, ndcg):
    made = score(found, right)

    assert (made.hit_1, made.hit_5, made.hit_10) == hits
    assert (made.mrr, made.ndcg_10) == (pytest.approx(mrr), pytest.approx(ndcg))


def test_won_and_lost_compare_the_first_right_article():
    assert won_and_lost([[2], [1], [], [5]], [[1], [3], [9], [5, 6]]) == ([0, 2], [1])


def test_a_judged_question_is_read_as_it_was_written():
    asked = Judged("wie groß ist das Zelt?", ("a", "b"), "acme")

    assert read([asked.line(), "", Judged("x", ("y",)).line()]) == [asked, Judged("x", ("y",))]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "null",
        '{"question": "x"}',
        '{"question": "x", "articles": []}',
        '{"question": " ", "articles": ["a"]}',
        '{"question": "x", "articles": "a"}',
        '{"question": "x", "articles": [1]}',
        '{"question": "x", "articles": ["a"], "tenant_id": 1}',
    ],
)
def test_a_line_that_is_none_is_named_by_its_number(line):
    with pytest.raises(InputError, match="line 2") as refused:
        read([Judged("x", ("y",)).line(), line])

    assert refused.value.hint
