"""The chore `daily cap`. With a provider and workers: tests/contract/test_budget.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedq.steward.spending_cap import apply_daily_cap


@pytest.fixture
def capped(settings):
    return replace(settings, daily_cap="10")


@pytest.fixture
def spend(psql):
    """Record this much as spent today, in all."""
    psql("INSERT INTO embedding_providers (name) VALUES ('hashing') ON CONFLICT DO NOTHING")

    def spent(cost):
        psql(
            "INSERT INTO embedding_usage (day, tenant_id, model, slot, cost) VALUES"
            " ((clock_timestamp() AT TIME ZONE 'UTC')::date, 'default', 'hashing/x/64', 0, %s)"
            " ON CONFLICT (day, tenant_id, model, slot) DO UPDATE SET cost = excluded.cost",
            cost,
        )

    return spent


def test_at_the_cap_normal_and_low_are_held_until_the_end_of_the_day_and_that_is_recorded_once(
    store, capped, spend, held, audit
):
    spend(10.0)

    apply_daily_cap(store, capped)
    apply_daily_cap(store, capped)

    assert held() == [(True,)]
    ((level, message),) = audit("usage")
    assert (level, message.startswith("the cap of 10")) == ("warning", True)


def test_below_the_cap_nothing_is_held(store, capped, spend, held, audit):
    spend(9.99)

    apply_daily_cap(store, capped)

    assert held() == [(False,)]
    assert audit("usage") == []


def test_a_cap_that_was_raised_or_removed_lets_them_go_on(store, settings, capped, spend, held, audit):
    spend(10.0)
    apply_daily_cap(store, capped)

    apply_daily_cap(store, settings)

    assert held() == [(False,)]
    assert audit("usage")[-1] == ("info", "normal and low go on: the day's cap is no longer reached")


@pytest.fixture
def held(psql):
    return lambda: psql("SELECT coalesce(capped_until > now(), FALSE) FROM embedding_providers")
