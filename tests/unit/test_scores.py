"""What a model's scores mean."""

from __future__ import annotations

import numpy as np
import pytest

from embedq.decide.scores import background
from embedq.errors import NotWell


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_background_is_where_cosines_of_texts_at_random_lie():
    dice = np.random.default_rng(1)
    far, near = unit(dice.normal(size=(200, 64))), unit(dice.normal(size=(200, 64)) + 3)

    apart, together = background(far), background(near)

    assert apart.pairs == 200 * 199 / 2
    assert apart.median == pytest.approx(0, abs=0.02)
    assert apart.median < apart.most_95 < apart.most_99 < 0.5
    assert together.median > 0.8


def test_too_few_texts_say_nothing():
    with pytest.raises(NotWell, match="only 19"):
        background(np.eye(19))
