"""The chaos can be played again: what goes wrong when depends on the seed alone, and everything is mended in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import BY_HAND, PROVIDER
from tests.chaos.plan import KINDS, REST_S, plan

seeds, lengths = st.integers(0, 10**9), st.floats(2.0, 120.0)


@given(seeds, lengths)
def test_the_same_seed_makes_the_same_plan(seed, seconds):
    assert plan(seed, seconds, 0.7) == plan(seed, seconds, 0.7)


def test_another_seed_makes_another_plan():
    assert plan(1, 60.0, 0.7) != plan(2, 60.0, 0.7)


@given(seeds, lengths)
def test_steps_are_in_order_of_time_and_within_it(seed, seconds):
    times = [step.at_s for step in plan(seed, seconds, 0.7)]

    assert times == sorted(times)
    assert all(0 < at_s < seconds for at_s in times)


@given(seeds, lengths)
def test_every_fault_that_lasts_is_mended_once_and_in_its_time(seed, seconds):
    steps = plan(seed, seconds, 0.7)
    begun = {step.number: step for step in steps if step.begin}

    mended = [step for step in steps if not step.begin]

    assert sorted(step.number for step in mended) == sorted(number for number, step in begun.items() if step.kind.most_s)
    for step in mended:
        lasted_s = step.at_s - begun[step.number].at_s
        assert step.kind.least_s - 1e-9 <= lasted_s <= step.kind.most_s + 1e-9


@given(seeds, lengths)
def test_two_faults_of_one_part_never_overlap_and_it_rests_between_them(seed, seconds):
    free_at: dict[str, float] = {}
    for step in plan(seed, seconds, 0.7):
        if step.begin:
            assert step.at_s >= free_at.get(step.kind.part, 0.0)
        free_at[step.kind.part] = step.at_s + REST_S


def test_a_long_run_meets_every_kind():
    met = {step.kind for step in plan(7, 600.0, 0.7)}

    assert met == set(KINDS)


def test_the_names_that_faults_are_looked_up_by_are_kinds():
    assert PROVIDER.keys() | BY_HAND.keys() <= {kind.name for kind in KINDS}
