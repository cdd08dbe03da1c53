"""When a failed task runs again, and how long a provider is left alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.circuit_breaker import provider_pause_s
from embedq.decide.retry import GiveUp, RetryAt, RetryPolicy, after_failure, wait_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLICY = RetryPolicy(max_retries=3, base_s=1.0, cap_s=300.0)
ALMOST_ONE = math.nextafter(1.0, 0.0)

dice = st.floats(0, 1, exclude_max=True)
policies = st.builds(RetryPolicy, st.integers(0, 50), st.floats(0.001, 100), st.floats(100, 10_000))


@pytest.mark.parametrize(
    ("attempt", "thrown", "seconds"),
    [
        pytest.param(1, ALMOST_ONE, 1, id="the first failure waits up to the base"),
        pytest.param(2, ALMOST_ONE, 2, id="the second up to twice the base"),
        pytest.param(4, ALMOST_ONE, 8, id="and so on"),
        pytest.param(1, 0.0, 0.1, id="but never less than a tenth of it"),
        pytest.param(10, ALMOST_ONE, 300, id="and never more than the cap"),
        pytest.param(100_000, 0.0, 30, id="a task that was retried for years does not overflow"),
    ],
)
def test_the_wait_doubles_up_to_a_cap(attempt: int, thrown: float, seconds: float) -> None:
    assert wait_s(attempt, POLICY, thrown) == pytest.approx(seconds)


@given(st.integers(1, 10_000), policies, dice)
def test_a_wait_lies_between_a_tenth_and_the_whole_of_its_bound(attempt: int, policy: RetryPolicy, thrown: float) -> None:
    waited = wait_s(attempt, policy, thrown)

    assert 0.1 * min(policy.base_s, policy.cap_s) <= waited * (1 + 1e-9)
    assert waited <= policy.cap_s


@given(st.integers(1, 1000), policies, dice)
def test_a_later_failure_never_waits_less_on_the_same_throw(attempt: int, policy: RetryPolicy, thrown: float) -> None:
    assert wait_s(attempt, policy, thrown) <= wait_s(attempt + 1, policy, thrown)


@given(st.integers(1, 20), policies)
def test_the_throws_are_spread_evenly_over_the_range(attempt: int, policy: RetryPolicy) -> None:
    lowest, middle, highest = (wait_s(attempt, policy, thrown) for thrown in (0.0, 0.5, ALMOST_ONE))

    assert middle == pytest.approx((lowest + highest) / 2)
    assert lowest == pytest.approx(highest / 10)


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        wait_s(0, POLICY, 0.5)


def test_three_retries_are_four_runs_in_all() -> None:
    decisions = [after_failure(attempts, "too long", POLICY, NOW, 0.5) for attempts in (1, 2, 3, 4)]

    assert [type(decision) for decision in decisions] == [RetryAt, RetryAt, RetryAt, GiveUp]


def test_without_retries_the_first_failure_is_the_last() -> None:
    decision = after_failure(1, "too long", RetryPolicy(max_retries=0), NOW, 0.5)

    assert decision == GiveUp(reason="gave up after 1 attempt: too long")


def test_a_retry_says_when_and_why() -> None:
    decision = after_failure(2, "the input was refused", POLICY, NOW, 0.0)

    assert decision == RetryAt(at=NOW + timedelta(seconds=0.2), reason="the input was refused")


@given(st.integers(1, 100), policies, dice)
def test_a_task_either_waits_within_the_cap_or_has_had_all_its_runs(attempts: int, policy: RetryPolicy, thrown: float) -> None:
    match after_failure(attempts, "why", policy, NOW, thrown):
        case RetryAt(at=at):
            assert attempts <= policy.max_retries
            assert NOW < at <= NOW + timedelta(seconds=policy.cap_s)
        case GiveUp(reason=reason):
            assert attempts > policy.max_retries
            assert reason.endswith("why")


@pytest.mark.parametrize(
    ("faults", "retry_after_s", "thrown", "seconds"),
    [
        pytest.param(1, None, ALMOST_ONE, 1, id="the first fault pauses for a second"),
        pytest.param(3, None, ALMOST_ONE, 4, id="the third for four"),
        pytest.param(20, None, ALMOST_ONE, 60, id="none for more than a minute"),
        pytest.param(1, 500, 0.0, 500, id="the provider's Retry-After is a floor"),
        pytest.param(1, 500, ALMOST_ONE, 550, id="with up to a tenth added"),
        pytest.param(1, 0.02, 0.0, 0.1, id="a wish of nothing is not taken literally"),
        pytest.param(5, 0, 0.0, 1.6, id="and less so every time"),
        pytest.param(1, -3, 0.0, 0.1, id="a wish in the past is a wish of nothing"),
        pytest.param(1, math.nan, 0.0, 0.1, id="what is no number was not said"),
        pytest.param(1, math.inf, ALMOST_ONE, 1, id="for ever was not said either"),
        pytest.param(1, 3e9, 0.0, 86_400, id="no wish is honoured beyond a day"),
    ],
)
def test_how_long_a_provider_is_paused(faults: int, retry_after_s: float | None, thrown: float, seconds: float) -> None:
    assert provider_pause_s(faults, retry_after_s, thrown) == pytest.approx(seconds)


@given(st.integers(1, 10_000), st.floats(0, 86_400), dice)
def test_retry_after_is_always_obeyed(faults: int, retry_after_s: float, thrown: float) -> None:
    assert provider_pause_s(faults, retry_after_s, thrown) >= retry_after_s


@given(st.integers(1, 10_000), st.none() | st.floats(allow_nan=True, allow_infinity=True), dice)
def test_a_pause_is_always_a_sane_number_of_seconds(faults: int, retry_after_s: float | None, thrown: float) -> None:
    assert 0.1 <= provider_pause_s(faults, retry_after_s, thrown) <= 86_400 * 1.1
