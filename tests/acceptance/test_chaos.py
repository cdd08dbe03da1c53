"""A short run of the chaos (tests/chaos); `scripts/chaos --minutes N --seed S` runs it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import plan
from tests.chaos.run import EVERY_S, run
from tests.chaos.table import table

SEED, SECONDS = 9914, 20.0
WORST = {
    "kill a celery worker",
    "kill a poller",
    "kill the steward's leader",
    "kill Redis",
    "flush Redis",
    "kill PostgreSQL",
    "break connections",
    "provider hangs",
    "provider limits",
    "provider answers 500",
    "provider returns too few",
    "switch the mode",
    "freeze a worker and take its tasks away",
    "delete what is in flight, by hand",
    "a model comes and goes",
    "the application changes a table",
    "two operators switch the mode at once",
}


def test_the_short_run_meets_the_worst():
    met = {step.kind.name for step in plan(SEED, SECONDS, EVERY_S)}

    assert WORST - met == set(), "another seed is needed: the plan has changed"


@pytest.mark.timeout(240)
def test_nothing_is_lost_stale_or_wrong_after_everything_went_wrong_at_random(tmp_path: Path):
    print(f"seed {SEED}; the processes' output is kept in {tmp_path}")

    result = run(SEED, SECONDS, tmp_path)

    print(table(result))
    assert not result.problems, f"seed {SEED}, logs in {tmp_path}:\n" + "\n".join(result.problems[:30])
    assert result.book.done["create"] > 50, "it was no test: hardly anything could be written"
    assert result.injected.total() > 10, "it was no test: hardly anything went wrong"
