"""How texts are put into requests, and how the culprits in a refused request are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from math import log2
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.engine.batching import Found, Verdict, halves, isolate, plan


class Text(NamedTuple):
    tokens: int


class Outcome(NamedTuple):
    found: Found
    requests: list[list[int]]


sizes = st.lists(st.integers(0, 50).map(Text), max_size=200)


def run(batch: Sequence[int], answer: Callable[[list[int]], Verdict]) -> Outcome:
    search, requests = isolate(batch), []
    try:
        tried = next(search)
        while True:
            requests.append(tried)
            tried = search.send(answer(tried))
    except StopIteration as end:
        return Outcome(end.value, requests)


def refusing(culprits: set[int]) -> Callable[[list[int]], Verdict]:
    return lambda tried: Verdict.REFUSED if culprits & set(tried) else Verdict.OK


@pytest.mark.parametrize(
    ("tokens", "max_inputs", "max_tokens", "batches"),
    [
        pytest.param([], 2, 10, [], id="nothing to send is no request"),
        pytest.param([1, 1, 1], 2, 10, [[0, 1], [2]], id="the count bounds a batch"),
        pytest.param([4, 6, 1], 9, 10, [[0, 1], [2]], id="the tokens bound a batch, and it may be full"),
        pytest.param([1, 11, 1, 1], 9, 10, [[0], [1], [2, 3]], id="what is too large stands alone"),
        pytest.param([11, 12], 9, 10, [[0], [1]], id="two that are too large do not share"),
        pytest.param([10, 0], 9, 10, [[0, 1]], id="an item of no tokens fits a full batch"),
        pytest.param([0, 11], 9, 10, [[0], [1]], id="what is too large does not join even an item of no tokens"),
    ],
)
def test_batches_are_bounded_by_count_and_by_tokens(
    tokens: list[int], max_inputs: int, max_tokens: int, batches: list[list[int]]
) -> None:
    assert plan([Text(count) for count in tokens], max_inputs, max_tokens) == batches


@given(sizes, st.integers(1, 20), st.integers(1, 100))
def test_every_position_appears_in_the_plan_exactly_once_and_in_order(
    texts: list[Text], max_inputs: int, max_tokens: int
) -> None:
    batches = plan(texts, max_inputs, max_tokens)

    assert list(chain.from_iterable(batches)) == list(range(len(texts)))


@given(sizes, st.integers(1, 20), st.integers(1, 100))
def test_no_batch_is_empty_or_over_a_limit_unless_it_is_one_large_item(
    texts: list[Text], max_inputs: int, max_tokens: int
) -> None:
    for batch in plan(texts, max_inputs, max_tokens):
        assert 1 <= len(batch) <= max_inputs
        assert len(batch) == 1 or sum(texts[position].tokens for position in batch) <= max_tokens


@given(sizes, st.integers(1, 20), st.integers(1, 100))
def test_no_batch_could_have_taken_the_next_item(texts: list[Text], max_inputs: int, max_tokens: int) -> None:
    batches = plan(texts, max_inputs, max_tokens)

    for batch, following in pairwise(batches):
        with_next = [*batch, following[0]]
        assert len(with_next) > max_inputs or sum(texts[position].tokens for position in with_next) > max_tokens


@pytest.mark.parametrize(("max_inputs", "max_tokens"), [(0, 1), (1, 0)])
def test_a_limit_below_one_is_a_mistake(max_inputs: int, max_tokens: int) -> None:
    with pytest.raises(ValueError, match="must be allowed"):
        plan([Text(1)], max_inputs, max_tokens)


@given(st.lists(st.integers(), min_size=2))
def test_halves_are_two_near_equal_parts_in_order(batch: list[int]) -> None:
    first, second = halves(batch)

    assert first + second == batch
    assert len(first) - len(second) in (0, 1)
    assert second


def test_an_innocent_batch_costs_one_request() -> None:
    outcome = run(range(100), refusing(set()))

    assert outcome.requests == [list(range(100))]
    assert outcome.found.ok == list(range(100))


def test_an_empty_batch_costs_none() -> None:
    assert run([], refusing(set())) == Outcome(Found(), [])


def test_three_culprits_among_a_hundred_are_isolated_in_a_few_dozen_requests() -> None:
    outcome = run(range(100), refusing({0, 49, 99}))

    assert outcome.found.refused == [0, 49, 99]
    assert len(outcome.found.ok) == 97
    assert len(outcome.requests) <= 40


def test_a_batch_that_was_only_too_large_loses_nothing() -> None:
    outcome = run(range(100), lambda tried: Verdict.REFUSED if len(tried) > 60 else Verdict.OK)

    assert outcome.found.ok == list(range(100))
    assert len(outcome.requests) == 3


@given(st.sets(st.integers(0, 1000), min_size=1, max_size=150), st.data())
def test_every_position_ends_exactly_once_as_ok_or_refused(positions: set[int], data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.sampled_from(sorted(positions))))

    found = run(sorted(positions), refusing(culprits)).found

    assert found.refused == sorted(culprits)
    assert found.ok == sorted(positions - culprits)
    assert found.left == []


@given(st.integers(1, 200), st.data())
def test_the_requests_are_few_when_the_culprits_are(count: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, count - 1), max_size=5))

    requests = run(range(count), refusing(culprits)).requests

    assert len(requests) <= 1 + 2 * len(culprits) * (1 + log2(count))


@given(st.integers(1, 100), st.data())
def test_every_culprit_was_refused_alone_even_by_a_provider_that_cannot_decide(count: int, data: st.DataObject) -> None:
    verdicts: dict[tuple[int, ...], Verdict] = {}

    def fickle(tried: list[int]) -> Verdict:
        return verdicts.setdefault(tuple(tried), data.draw(st.sampled_from([Verdict.OK, Verdict.REFUSED])))

    found = run(range(count), fickle).found

    assert sorted(found.ok + found.refused) == list(range(count))
    assert all(verdicts[(position,)] is Verdict.REFUSED for position in found.refused)


@given(st.integers(1, 100), st.sets(st.integers(0, 99)), st.integers(1, 60))
def test_an_interruption_leaves_exactly_what_was_not_decided(count: int, culprits: set[int], calls: int) -> None:
    answer, asked = refusing(culprits), []

    def then_busy(tried: list[int]) -> Verdict:
        asked.append(tried)
        return Verdict.INTERRUPTED if len(asked) == calls else answer(tried)

    found = run(range(count), then_busy).found

    assert sorted(found.ok + found.refused + found.left) == list(range(count))
    assert len(asked) <= calls
    assert found.left == sorted(found.left)
    assert bool(found.left) == (len(asked) == calls)
