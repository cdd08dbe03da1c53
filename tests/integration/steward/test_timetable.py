"""When chores are due, by the real clock."""

from __future__ import annotations

import time

import pytest

from embedq.steward.timetable import AGAIN_S, Chore, Timetable

LATER_S = 3600.0


@pytest.fixture
def done():
    return []


def test_a_chore_is_done_when_it_is_due_and_then_after_its_interval(worker, done):
    chore = Chore("often", LATER_S, lambda: done.append("often"))
    timetable = Timetable([chore], worker)

    timetable.tick()
    timetable.tick()

    assert done == ["often"]
    assert in_about(chore, LATER_S)


def test_a_chore_that_fails_is_tried_again_soon_and_the_next_one_is_done(worker, done):
    failing = Chore("failing", LATER_S, lambda: 1 / 0)
    timetable = Timetable([failing, Chore("other", LATER_S, lambda: done.append("other"))], worker)

    timetable.tick()

    assert done == ["other"]
    assert in_about(failing, AGAIN_S)


def test_what_is_brought_forward_is_due_then_and_never_later_than_it_was(worker):
    chore = Chore("rare", LATER_S, lambda: None)
    timetable = Timetable([chore], worker)
    timetable.tick()

    timetable.bring_forward("rare", 2.0)
    timetable.bring_forward("rare", 600.0)

    assert in_about(chore, 2.0)


def test_a_new_leader_does_everything_at_once_but_what_is_named_as_later(worker, done):
    now, later = Chore("now", LATER_S, lambda: done.append("now")), Chore("later", LATER_S, lambda: done.append("later"))
    timetable = Timetable([now, later], worker)
    timetable.tick()
    done.clear()

    timetable.start({"later": 30.0})
    timetable.tick()

    assert done == ["now"]
    assert in_about(later, 30.0)


def in_about(chore, seconds):
    return seconds - 5.0 < chore.next_at - time.monotonic() <= seconds
