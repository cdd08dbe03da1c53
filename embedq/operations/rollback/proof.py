"""The verification of a procedure: counts of wanted, stored and open before and after it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...store.reconcile import HELD_BY_NOBODY
from .procedure import NOT_WELL, Did, Scene, Step

# Measured on two shared cores; used only for the plan's estimate.
VERIFIED_A_S = 200_000
PATIENCE_S, AGAIN_S = 3.0, 0.2


def _counts(scene: Scene) -> dict[str, int]:
    return scene.store.switches.counts()


def _snapshot(scene: Scene) -> Did:
    facts = numbers(scene.store.care.verify())
    counts = _counts(scene)
    return Did(
        f"{facts['stored']:,} of {facts['wanted']:,} articles are stored, {sum(counts.values()):,} tasks open", facts | counts
    )


def numbers(facts: dict[str, Any]) -> dict[str, int]:
    """The counts of a verification, without its texts."""
    return {name: value for name, value in facts.items() if isinstance(value, int)}


SNAPSHOT = Step(
    "snapshot",
    lambda scene: "count what is wanted, stored and open, to compare afterwards",
    _snapshot,
    takes_s=lambda scene: sum(_counts(scene).values()) / VERIFIED_A_S,
)


def _verify(scene: Scene) -> Did:
    """Verify, retried for a few seconds, because a steward takes back a dead worker's tasks within that time."""
    deadline = time.monotonic() + PATIENCE_S
    while _problems(facts := scene.store.care.verify(), waiting := scene.store.switches.held_by_no_worker()):
        if time.monotonic() > deadline:
            break
        time.sleep(AGAIN_S)
    before, after = scene.noted("snapshot"), numbers(facts)
    compared = {
        name: [before.get(name), after.get(name)] for name in ("wanted", "stored", "pending", "processing", "failed", "missing")
    }
    said = ", ".join(f"{name} {was} -> {now}" for name, (was, now) in compared.items())
    problems = [f"PROBLEM: {problem}" for problem in _problems(facts, waiting)]
    return Did("; ".join([said, *problems]), after | {"compared": compared, "exit_code": NOT_WELL if problems else 0})


def _problems(facts: Mapping[str, Any], waiting: int) -> list[str]:
    """Problems found by the verification. Revoked tasks that wait for a writer's transaction are not counted: a steward frees them."""
    if facts["held_by_nobody"] > waiting:
        return list(facts["problems"])
    return [problem for problem in facts["problems"] if not problem.endswith(HELD_BY_NOBODY)]


VERIFY = Step(
    "verify",
    lambda _: "prove that nothing is missing, and compare with the snapshot",
    _verify,
    takes_s=lambda scene: sum(_counts(scene).values()) / VERIFIED_A_S,
)
