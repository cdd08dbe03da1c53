"""How fast a provider may be asked: whatever the limit, no minute sees more than it; and what numbers by model mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.budget import EARLY_S, PATIENCE_S, TOKEN_BURST_SHARE, Here, Later, Rates, leave_alone_s, place_of, rates_of
from embedq.decide.prices import Cap, cap_of, cost, number_for, numbers
from embedq.decide.ranking import Words, mixed, overlap
from embedq.model import Model

SMALL = Model("openai", "text-embedding-3-small", 1536)


@given(st.integers(3, 10_000_000))
def test_in_no_minute_more_leaves_the_bucket_than_the_limit(per_minute):
    bucket = rates_of(per_minute)

    assert bucket.burst + bucket.reserve + 60 * bucket.rate_s <= per_minute * (1 + 1e-9)


@given(st.integers(1_000, 100_000_000))
def test_in_no_minute_more_tokens_leave_than_the_limit(per_minute):
    bucket = rates_of(per_minute, burst_share=TOKEN_BURST_SHARE)

    assert bucket.burst + bucket.reserve + 60 * bucket.rate_s <= per_minute * (1 + 1e-9)


@given(st.integers(60, 10_000_000))
def test_more_than_nine_tenths_of_the_limit_can_be_used(per_minute):
    assert 60 * rates_of(per_minute).rate_s > 0.9 * per_minute


@given(st.integers(1, 10_000_000))
def test_every_bucket_holds_a_request_and_fills_again(per_minute):
    bucket = rates_of(per_minute)

    assert bucket.burst >= 1
    assert bucket.rate_s > 0


def test_no_limit_is_no_bucket():
    assert rates_of(0).rate_s == 0
    assert not Rates()
    assert Rates(tokens_per_minute=1)


def test_a_negative_wait_means_that_there_is_no_place_near_enough():
    assert place_of(0.0) == Here(0.0)
    assert place_of(1.5) == Here(1.5)
    assert place_of(-7.0) == Later(7.0)


def test_claims_begin_again_when_a_place_can_nearly_be_waited_for():
    assert leave_alone_s(10.0) == 10.0 - PATIENCE_S + EARLY_S
    assert leave_alone_s(0.5) == 0.0


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("", 0.0, id="nothing is given"),
        pytest.param("500", 500.0, id="a bare number is for all"),
        pytest.param("openai=60", 60.0, id="by provider"),
        pytest.param("ollama=60", 0.0, id="another provider"),
        pytest.param("7, openai=60 ,openai/text-embedding-3-small=9", 9.0, id="the longest name wins"),
        pytest.param("openai/text-embedding-3-small/1536=1,openai/text-embedding-3-small=2", 1.0, id="dimensions too"),
        pytest.param("openai/text-embedding-3=5", 0.0, id="half a name is no name"),
    ],
)
def test_a_number_is_found_by_the_models_name(raw, expected):
    assert number_for(raw, SMALL) == expected


@pytest.mark.parametrize("raw", ["much", "openai=", "openai=-1", "openai=nan", "=x"])
def test_what_is_no_number_is_refused(raw):
    with pytest.raises(ValueError):
        numbers(raw)


def test_a_cap_is_money_or_tokens():
    assert cap_of("") is None
    assert cap_of("12.50") == Cap(12.5)
    assert cap_of("5000000 tokens") == Cap(5_000_000, in_tokens=True)
    assert Cap(12.5).reached(12.5, 0)
    assert not Cap(12.5).reached(12.4, 10**9)
    assert Cap(100, in_tokens=True).reached(0.0, 100)
    with pytest.raises(ValueError):
        cap_of("5 euros")


def test_a_price_is_of_a_million_tokens():
    assert cost(2_000_000, 0.02) == pytest.approx(0.04)


@given(st.dictionaries(st.text(max_size=3), st.floats(-1, 1)), st.lists(st.text(max_size=3), unique=True))
def test_a_mixed_ranking_has_every_key_once(cosines, matching):
    words = {key: Words(1.0, 0.5, 7) for key in matching}

    assert sorted(mixed(list(cosines), cosines, words)) == sorted(cosines)


def test_overlap_is_the_share_of_the_first_k():
    assert overlap(["a", "b"], ["b", "c"], 2) == 0.5
    assert overlap(["a", "b", "c"], ["a", "x", "y"], 1) == 1.0
    assert overlap([], [], 5) == 1.0
    assert overlap(["a"], [], 5) == 0.0
