"""How much is asked for at once, by how long the answers take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.pace import FEWEST_TOKENS, FIRST_TOKENS, MOST_AT_ONCE, Pace, after_answer, after_timeout

TIMEOUT_S = 30.0


def test_a_fast_server_is_soon_asked_for_as_much_as_it_takes():
    pace, requests = Pace(), 0
    while pace.max_tokens < 300_000:
        pace, requests = after_answer(pace, pace.max_tokens, 4, 0.2, TIMEOUT_S), requests + 1

    assert requests <= 8


@pytest.mark.parametrize("threads", [1, 4, 16])
@pytest.mark.parametrize("tokens_per_s", [20.0, 300.0, 5_000.0])
def test_a_server_that_computes_one_request_after_the_other_is_answering_in_time_in_the_end(tokens_per_s, threads):
    pace, late = Pace(), []
    for _ in range(60):
        at_once = min(threads, pace.at_once)
        took_s = at_once * pace.max_tokens / tokens_per_s
        late.append(took_s > TIMEOUT_S)
        pace = (
            after_timeout(pace, pace.max_tokens)
            if late[-1]
            else after_answer(pace, pace.max_tokens, at_once, took_s, TIMEOUT_S)
        )

    assert not any(late[20:])
    assert sum(late) <= 3


def test_after_a_timeout_one_request_is_under_way_and_it_is_smaller():
    assert after_timeout(Pace(), FIRST_TOKENS) == Pace(FIRST_TOKENS // 4, 1)


def test_a_small_request_that_was_fast_lets_no_larger_one_through():
    assert after_answer(Pace(8_000, 2), 10, 1, 0.1, TIMEOUT_S) == Pace(8_000, 3)


@given(st.integers(1, 10**7), st.integers(1, 300), st.floats(0, 1e4), st.lists(st.booleans(), max_size=40))
def test_there_is_always_a_request_that_may_be_sent(tokens, at_once, took_s, timeouts):
    pace = Pace()
    for timed_out in timeouts:
        pace = after_timeout(pace, tokens) if timed_out else after_answer(pace, tokens, at_once, took_s, TIMEOUT_S)
        assert pace.max_tokens >= FEWEST_TOKENS
        assert 1 <= pace.at_once <= MOST_AT_ONCE
