"""The gate before a batch: what is hurried has the process to itself for a while, and nobody waits for ever."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from embedq.decide.throttle import Throttle
from embedq.engine import concurrency
from embedq.engine.concurrency import Gate
from tests.support import until


@pytest.fixture
def gate() -> Gate:
    return Gate(Throttle, threading.Event())


def entering(gate: Gate, *, hurried: bool = False) -> threading.Event:
    """A thread that passes the gate; the event tells that it did."""
    passed = threading.Event()

    def enter() -> None:
        with gate.hurry() if hurried else nullcontext(), gate.entered():
            passed.set()

    threading.Thread(target=enter, daemon=True).start()
    return passed


def test_while_something_is_hurried_no_other_batch_begins(gate, monkeypatch):
    monkeypatch.setattr(concurrency, "GIVE_WAY_S", 60.0)
    with gate.hurry():
        passed = entering(gate)
        assert entering(gate, hurried=True).wait(5)
        assert not passed.is_set()

    assert passed.wait(5)


def test_who_gives_way_does_so_for_a_bounded_time(gate):
    with gate.hurry():
        assert entering(gate).wait(5)


def test_what_is_paid_for_gives_way_too_and_not_for_long(gate):
    with gate.entered():
        gate.give_way(60.0)  # nobody is in a hurry
        with gate.hurry():
            gate.give_way(60.0)  # it is this thread itself
            waits_shortly, waits = (threading.Thread(target=gate.give_way, args=(s,), daemon=True) for s in (0.01, 60.0))
            waits_shortly.start()
            waits.start()
            waits_shortly.join(5)
            waits.join(0.2)
            assert (waits_shortly.is_alive(), waits.is_alive()) == (False, True)
        waits.join(5)
        assert not waits.is_alive()


def test_what_was_hurried_leaves_no_trace_when_it_fails(gate, monkeypatch):
    monkeypatch.setattr(concurrency, "GIVE_WAY_S", 60.0)
    with pytest.raises(ValueError, match="its provider"), gate.hurry():
        raise ValueError("its provider")

    assert entering(gate).wait(5)
    until(lambda: gate.inside == 0, 5)
