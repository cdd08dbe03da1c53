"""Mode `sync`: who may wait for the provider, and who goes without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from embedq.client.bulkhead import PATIENCE_S, Seats
from embedq.errors import InputRefused, ProviderBusy, StoreUnavailable

NUMBER = 3
BUSY = ProviderBusy("it did not answer in time", hint="wait")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seats(clock: Clock) -> Seats:
    return Seats(NUMBER, clock)


@pytest.fixture
def sitting() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def call(seats: Seats, ends_with: Exception | None = None) -> None:
    with seats.taken():
        if ends_with is not None:
            raise ends_with


def test_when_no_call_has_ended_for_a_while_who_finds_no_seat_goes_without_at_once(
    seats: Seats, clock: Clock, sitting: ExitStack
) -> None:
    for _ in range(NUMBER):
        sitting.enter_context(seats.taken())
    clock.now += PATIENCE_S

    with pytest.raises(ProviderBusy):
        call(seats)

    sitting.close()
    call(seats)


def test_after_a_fault_one_at_a_time_asks_until_a_call_ends_well(seats: Seats, sitting: ExitStack) -> None:
    with pytest.raises(ProviderBusy):
        call(seats, BUSY)

    with seats.taken(), pytest.raises(ProviderBusy, match="other writes wait"):
        call(seats)

    for _ in range(NUMBER):
        sitting.enter_context(seats.taken())


@pytest.mark.parametrize(
    ("fault", "well"),
    [
        pytest.param(InputRefused("too long", hint="shorten it"), True, id="a refused text is an answer"),
        pytest.param(
            StoreUnavailable("PostgreSQL is away", hint="wait"), False, id="of PostgreSQL one learns nothing about it"
        ),
    ],
)
def test_what_ends_a_call_says_something_about_the_provider_or_not(
    seats: Seats, sitting: ExitStack, fault: Exception, well: bool
) -> None:
    with pytest.raises(ProviderBusy):
        call(seats, BUSY)

    with pytest.raises(type(fault)):
        call(seats, fault)

    sitting.enter_context(seats.taken())
    if well:
        call(seats)
    else:
        with pytest.raises(ProviderBusy):
            call(seats)
