"""Compares two results of `verify`, before and after. A pure function."""

from __future__ import annotations

from collections.abc import Mapping

COMPARED = ("wanted", "stored", "pending", "processing", "failed", "stale", "missing")


def compare(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[list[tuple[str, int, int]], list[str]]:
    """(fact, before, after) for each compared fact, and the changes that must not have happened."""
    rows = [(name, _count(before, name), _count(after, name)) for name in COMPARED]
    changed = {name: now - then for name, then, now in rows}
    problems = []
    if changed["wanted"] < 0:
        problems.append(
            f"{-changed['wanted']} articles fewer than before: were they deleted on purpose? `embedq audit` shows by whom"
        )
    if changed["stored"] < min(0, changed["wanted"]):
        problems.append(f"{-changed['stored']} embeddings fewer than before: `embedq reconcile` makes tasks for them")
    if changed["missing"] > 0:
        problems.append(f"{changed['missing']} more articles are stale without a task: `embedq reconcile`")
    return rows, problems


def _count(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0
