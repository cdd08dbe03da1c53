"""JSON is counted as it arrives: the same count however it is cut, and the same as of what the parser makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.bodies import ARTICLE, VALUES_MAX, Bounds, Counted, batch
from embedq.decide.connections import LEAST, MOST, limits

TEXT = st.text(alphabet=st.sampled_from('ab"\\[]{},:/\x00\né☕'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=30,
)


def counted(value: Any) -> int:
    """Commas and opening brackets of the value as JSON."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(0, len(inner) - 1) + sum(counted(one) for one in inner)


def deepest(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((deepest(one) for one in inner), default=0)


def refused(text: bytes, cuts: list[int], bounds: Bounds) -> str | None:
    count, ends = Counted(bounds), sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    for start, end in zip([0, *ends], ends, strict=False):
        if (why := count.too_much(text[start:end])) is not None:
            return why
    return None


@given(value=VALUES, cuts=st.lists(st.integers(0, 300), max_size=8), ascii_only=st.booleans())
def test_a_text_is_refused_just_beyond_its_values_and_its_depth(value: Any, cuts: list[int], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    values, depth = counted(value), deepest(value)

    assert refused(text, cuts, Bounds(10**6, values, depth)) is None
    assert values == 0 or "values" in str(refused(text, cuts, Bounds(10**6, values - 1, depth)))
    assert depth == 0 or "nested" in str(refused(text, cuts, Bounds(10**6, values, depth - 1)))


@pytest.mark.parametrize("bomb", [b"[],", b"{},", b"1,", b'"",', b'"\\"[",', b"["])
def test_a_bomb_is_refused_long_before_it_is_all_there(bomb: bytes) -> None:
    count, pieces = Counted(ARTICLE), 0
    piece = bomb * (65_536 // len(bomb))

    while count.too_much(piece) is None:
        pieces += 1

    assert pieces * len(piece) < len(bomb) * 2 * VALUES_MAX


def test_a_batch_as_large_as_the_setting_allows_has_room_for_all_its_articles() -> None:
    articles = [{"id": "a", "slug": "b", "title": "c", "content": "d", "metadata": {"e": [1, 2, 3]}}] * 10_000

    assert Counted(batch(10_000)).too_much(json.dumps({"articles": articles}).encode()) is None


@pytest.mark.parametrize(
    ("files", "reserved", "total"),
    [
        pytest.param(64, 50, 14, id="few files"),
        pytest.param(64, 60, LEAST, id="hardly any: a few all the same"),
        pytest.param(1_000_000, 60, MOST, id="as many files as anybody wants"),
    ],
)
def test_connections_stay_below_the_files_and_one_address_gets_half(files: int, reserved: int, total: int) -> None:
    found = limits(files, reserved)

    assert (found.total, found.per_peer) == (total, total // 2)
