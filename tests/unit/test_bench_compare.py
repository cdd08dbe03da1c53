"""What `scripts/bench --compare` concludes from the figures of two revisions."""

from __future__ import annotations

import pytest

from tests.bench.compare import told

KEY = ("B1", "articles/s")


@pytest.mark.parametrize(
    ("theirs", "ours", "differs"),
    [
        pytest.param([100.0, 100.0], [90.0, 95.0], True, id="lower in every round"),
        pytest.param([100.0, 100.0], [110.0, 104.0], True, id="higher in every round"),
        pytest.param([100.0, 100.0], [90.0, 105.0], False, id="one way and the other"),
        pytest.param([100.0, 100.0], [98.0, 102.0], False, id="within noise"),
        pytest.param([100.0, 50.0], [100.0, 50.0], False, id="a machine that slowed down"),
    ],
)
def test_a_figure_differs_when_it_does_in_every_round(theirs: list[float], ours: list[float], differs: bool) -> None:
    ((line, said),) = told({KEY: theirs}, {KEY: ours})

    assert said is differs
    assert ("DIFFERS" in line) is differs
    assert line.startswith("B1 articles/s: ")


def test_a_figure_that_only_one_has_is_left_out() -> None:
    assert list(told({}, {KEY: [1.0]})) == []
