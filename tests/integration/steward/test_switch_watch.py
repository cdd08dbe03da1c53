"""The chore `notice a switch`: shortly after a change of the live row the search for stale articles is repeated."""

from __future__ import annotations

import pytest

from embedq.steward.switch_watch import RECONCILE_AFTER_SWITCH_S, SwitchWatch


@pytest.fixture
def asked():
    return []


@pytest.fixture
def watch(store, asked):
    """It has seen the live row once."""
    made = SwitchWatch(store, asked.append)
    made.look()
    return made


def test_the_first_look_is_no_change(watch, asked):
    assert asked == []


def test_a_change_by_hand_is_noticed_once(watch, asked, psql):
    psql("UPDATE embedding_worker_status SET mode = 'database'")

    watch.look()
    watch.look()

    assert asked == [RECONCILE_AFTER_SWITCH_S]


def test_without_a_change_nothing_is_brought_forward(watch, asked):
    watch.look()

    assert asked == []
