"""Workers keep to the budget that they share, and to the cap for the day."""

from __future__ import annotations

import time

import pytest

from embedq.store import Store
from embedq.store.database import Database
from tests.support import run_command, until

WINDOW_S = 12.0
IN_WINDOW = 120
PER_MINUTE = int(IN_WINDOW * 60 / WINDOW_S)


def test_twenty_workers_stay_below_the_providers_limit_and_use_it(fresh):
    fresh.standin.control(requests_per_minute=IN_WINDOW, rate_window_s=WINDOW_S, latency_ms=100)
    fresh.add({f"a{number}": f"text number {number}" for number in range(2_000)})
    for _ in range(2):
        fresh.start(EMBEDDING_CONCURRENT_WORKERS="10", EMBEDDING_BATCH_SIZE="2", EMBEDDING_REQUESTS_PER_MINUTE=str(PER_MINUTE))
    until(lambda: fresh.standin.stats()["requests"] > 10)

    began, before = time.monotonic(), fresh.standin.stats()["requests"]
    until(lambda: time.monotonic() - began > 1.5 * WINDOW_S, 2 * WINDOW_S)
    asked, seconds = fresh.standin.stats()["requests"] - before, time.monotonic() - began

    assert fresh.standin.stats()["statuses"].keys() == {"200"}, fresh.standin.stats()
    assert asked > 0.9 * seconds * PER_MINUTE / 60, (asked, seconds)
    assert fresh.sql("SELECT count(*) FROM embedding_tasks WHERE attempts > 1 OR status = 'failed'") == [(0,)]


def test_the_urgent_pass_a_line_that_is_used_up(fresh):
    fresh.add({f"a{number}": f"text number {number}" for number in range(500)})
    fresh.start(EMBEDDING_CONCURRENT_WORKERS="4", EMBEDDING_BATCH_SIZE="1", EMBEDDING_REQUESTS_PER_MINUTE="60")
    until(lambda: fresh.standin.stats()["requests"] > 1)

    fresh.sql("SELECT set_config('embedq.priority', 'urgent', false)")
    fresh.add({"now": "an urgent text"})

    until(lambda: "an urgent text" in fresh.standin.paid(), 15, fresh.story)
    assert fresh.standin.stats()["requests"] < 30


def test_tasks_that_wait_for_the_budget_are_not_charged(fresh):
    fresh.add({f"a{number}": f"text number {number}" for number in range(40)})
    fresh.start(EMBEDDING_CONCURRENT_WORKERS="4", EMBEDDING_BATCH_SIZE="5", EMBEDDING_REQUESTS_PER_MINUTE="60")

    assert fresh.until_idle(60) == {"completed": 40}
    assert fresh.sql("SELECT DISTINCT attempts FROM embedding_tasks") == [(1,)]


CAPPED = {"EMBEDDING_PRICES": "openai=1000", "EMBEDDING_DAILY_CAP": "0.01"}


def reach_the_cap(fresh):
    fresh.start(**CAPPED)
    fresh.add({"a": "ten tokens of text, or a few more of them"})
    fresh.until_idle()
    until(
        lambda: fresh.sql("SELECT capped_until > now() FROM embedding_providers WHERE name = 'openai'") == [(True,)],
        20,
        fresh.story,
    )


def test_a_days_cap_holds_normal_and_low_back_says_so_and_lets_the_urgent_through(fresh):
    reach_the_cap(fresh)

    fresh.add({"b": "this one has to wait"})
    fresh.sql("SELECT set_config('embedq.priority', 'urgent', false)")
    fresh.add({"c": "this one does not"})

    until(lambda: "this one does not" in fresh.standin.paid(), 20, fresh.story)
    assert "this one has to wait" not in fresh.standin.texts()
    said = fresh.sql(
        "SELECT count(*), min(level) FROM embedding_audit_logs WHERE message LIKE 'the cap of 0.01 a day is reached%'"
    )
    assert said == [(1, "warning")]
    shown = run_command(fresh.environment | CAPPED, "usage").stdout
    assert "the cap of 0.01 a day is reached" in shown


def test_the_next_day_what_was_held_back_goes_on(fresh):
    reach_the_cap(fresh)
    fresh.add({"b": "this one has to wait"})

    fresh.sql("UPDATE embedding_usage SET day = day - 1")

    until(lambda: "this one has to wait" in fresh.standin.paid(), 30, fresh.story)
    assert fresh.sql("SELECT count(*) FROM embedding_audit_logs WHERE message LIKE 'normal and low go on%'") == [(1,)]


def test_what_is_bought_has_its_price_in_the_ledger(fresh):
    fresh.start(EMBEDDING_PRICES="openai/text-embedding-3-small=1000")
    fresh.add({"a": "x" * 4000})
    fresh.until_idle()

    assert Store(Database(fresh.url)).ledger.today().cost == pytest.approx(1.0)
