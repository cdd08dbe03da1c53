"""Operations through all their interleavings: each alone, and pairs drawn by what the store's sources are, so that every change of them draws others."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from .case import ISOLATIONS, Explorer, Violation, read, replay
from .cases import cases, sampled
from .crew import explore
from .gate import _monotonic

STORE = Path(__file__).parents[2] / "embedq" / "store"
SECONDS, MOST = 40.0, 200
AT_LEAST = 5


def drawn() -> int:
    """A seed that stays while the store's code, statements and migrations stay."""
    digest = hashlib.sha256()
    for file in sorted(STORE.rglob("*")):
        if file.suffix in (".py", ".sql"):
            digest.update(file.read_bytes())
    return int.from_bytes(digest.digest()[:4])


def told(violations: list[Violation]) -> str:
    return "\n".join(f"{each.problem}\n  scripts/explore --replay {each.schedule}" for each in violations)


@pytest.mark.parametrize("state", sorted({case.state for case in cases(1)}))
def test_each_operation_alone_breaks_no_promise(explorer: Explorer, state: str):
    found = [violation for case in cases(1, only=[state]) for violation in explore(explorer, case, most=MOST).violations]

    assert not found, told(found)


def test_pairs_break_no_promise(explorer: Explorer):
    seed, began, explored = drawn(), _monotonic(), 0
    found: list[Violation] = []
    pairs = sampled(cases(2, isolations=ISOLATIONS), seed, 1000)
    while _monotonic() - began < SECONDS:
        result = explore(explorer, pairs[explored], most=MOST, deadline=time.time() + SECONDS)
        explored += 1
        found += result.violations

    assert explored >= AT_LEAST, "it was no test: hardly any pair was explored"
    assert not found, f"seed {seed}, {explored} pairs:\n{told(found)}"


@pytest.mark.parametrize("names", [("claim", "edit"), ("claim", "delete"), ("hand_failed", "insert")], ids="+".join)
def test_the_reduction_loses_no_end_of_the_products_own_operations(explorer: Explorer, names: tuple[str, str]):
    case = read(f"pending/{'+'.join(names)}/read_committed/")[0]

    reduced, full = explorer.ends(case), explorer.ends(case, reduced=False)

    assert reduced == full


def test_a_schedule_is_repeated_step_by_step(explorer: Explorer):
    case, choices = read("pending/claim+edit/read_committed/0,0,1,0")

    first, _ = replay(explorer, case, choices)
    again, _ = replay(explorer, case, [step.choice for step in first.steps])

    assert [*first.trace()] == [*again.trace()]
    assert [step.choice for step in first.steps][:4] == choices
