"""Pages, folding and diversity, without a database."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.answers import WINDOW, Wanted, diverse, folded
from embedq.errors import InputError


@pytest.mark.parametrize(
    ("wanted", "window"),
    [
        (Wanted(10), 10),
        (Wanted(10, hybrid=True), 10),
        (Wanted(10, offset=0), WINDOW),
        (Wanted(10, offset=100), WINDOW),
        (Wanted(10, fold=True), WINDOW),
        (Wanted(10, diversity=0.1), WINDOW),
        (Wanted(10, rerank="x"), WINDOW),
        (Wanted(400, fold=True), 800),
        (Wanted(900, fold=True), 1000),
    ],
)
def test_every_page_is_cut_from_a_ranking_of_the_same_size(wanted, window):
    wanted.check()

    assert wanted.window == window


@pytest.mark.parametrize(
    "wanted", [Wanted(0), Wanted(1001), Wanted(10, offset=-1), Wanted(10, offset=191), Wanted(1, diversity=1.01)]
)
def test_what_cannot_be_answered_is_refused(wanted):
    with pytest.raises(InputError):
        wanted.check()


def row(key, content, title="t"):
    return {"article_id": key, "title": title, "content": content}


def test_the_same_content_is_one_result_and_an_empty_one_is_told_by_its_title():
    rows = [
        row("a", "Hot  tea"),
        row("b", "milk"),
        row("c", "hot TEA\n"),
        row("d", "", "x"),
        row("e", "", "y"),
        row("f", "", "X"),
    ]

    assert [(one["article_id"], one["duplicates"]) for one in folded(rows)] == [
        ("a", ["c"]),
        ("b", []),
        ("d", ["f"]),
        ("e", []),
    ]


VECTORS = np.array([[1, 0, 0], [1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("diversity", "order"),
    [
        pytest.param(0.0, [0, 1, 2, 3], id="none: the ranking as it is"),
        pytest.param(0.5, [0, 2, 3, 1], id="half: the same text once more comes last"),
        pytest.param(1.0, [0, 3, 2, 1], id="all: only likeness counts, after the first"),
    ],
)
def test_maximal_marginal_relevance(diversity, order):
    assert diverse([0.9, 0.89, 0.8, 0.1], VECTORS, diversity, 4) == order


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.floats(0, 1), st.integers(1, 20))
def test_each_place_is_chosen_once_and_the_best_first(scores, diversity, wanted):
    vectors = np.eye(12)[: len(scores)]

    chosen = diverse(scores, vectors, diversity, wanted)

    assert len(chosen) == len(set(chosen)) == min(wanted, len(scores))
    assert diversity == 1 or scores[chosen[0]] >= max(scores) - 1e-9
