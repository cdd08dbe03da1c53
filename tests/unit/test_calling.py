"""How many calls a queue is missing: enough for the next while, never a flood."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedq.steward.wakeups import CALLS_PER_ANSWER, FEWEST_CALLS, MOST_CALLS, calls_missing

counts = st.integers(min_value=0, max_value=10_000)


def test_the_first_look_calls_a_few():
    assert calls_missing(called=0, waiting=0) == FEWEST_CALLS


def test_nobody_answers_and_nobody_is_called_again():
    assert calls_missing(called=FEWEST_CALLS, waiting=FEWEST_CALLS) == 0


def test_what_was_answered_is_called_for_four_times():
    assert calls_missing(called=20, waiting=0) == 20 * CALLS_PER_ANSWER
    assert calls_missing(called=30, waiting=10) == 20 * CALLS_PER_ANSWER - 10


@given(called=counts, waiting=counts)
def test_the_queue_is_never_short_and_never_flooded(called: int, waiting: int):
    after = waiting + calls_missing(called, waiting)
    assert after >= FEWEST_CALLS
    assert after <= max(waiting, MOST_CALLS)


@given(waiting=counts, called=counts, more=st.integers(min_value=0, max_value=1000))
def test_more_answers_never_mean_fewer_calls(waiting: int, called: int, more: int):
    assert calls_missing(called + more, waiting) >= calls_missing(called, waiting)
