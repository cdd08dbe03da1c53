"""Two revisions in turn, in one run: `scripts/bench --compare REV [B1 …]` measures REV and this checkout, and prints ratios with their spread.

Each round runs the benchmarks of both, the first alternately, because a machine changes its speed within minutes. A revision is measured by
its own benchmark code, with the packages that are installed here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
NOISE = 0.03

# By benchmark and figure: one value for each round.
Values = dict[tuple[str, str], list[float]]


def compare(revision: str, wanted: Sequence[str], *, rounds: int, quick: bool) -> int:
    """Prints one line for each figure that both have. The exit code is 1 where one differs beyond noise in every round."""
    with checked_out(revision) as there:
        theirs, ours = _measured({there: {}, ROOT: {}}, wanted, rounds, quick)
    lines = list(told(theirs, ours))
    print("\n".join(line for line, _ in lines))
    return int(any(differs for _, differs in lines))


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A work tree of this revision, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="embedq-compare-") as folder:
        there = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(there), revision)
        try:
            yield there
        finally:
            _git("worktree", "remove", "--force", str(there))


def _git(*words: str) -> None:
    subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)


def _measured(found: dict[Path, Values], wanted: Sequence[str], rounds: int, quick: bool) -> list[Values]:
    trees = list(found)
    for number in range(rounds):
        for tree in trees if number % 2 == 0 else trees[::-1]:
            print(f"round {number + 1} of {rounds}: {'this checkout' if tree == ROOT else 'the other revision'}", flush=True)
            for key, value in figures_of(tree, wanted, quick=quick).items():
                found[tree].setdefault(key, []).append(value)
    return list(found.values())


def figures_of(tree: Path, wanted: Sequence[str], *, quick: bool) -> Mapping[tuple[str, str], float]:
    """One run of this tree's benchmarks. Raises CalledProcessError where it fails."""
    results = tree / "tests" / "bench" / "results"
    before = set(results.glob("*.json"))
    argv = [sys.executable, "-m", "tests.bench", *wanted, *(["--quick"] if quick else [])]
    subprocess.run(argv, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, check=True, stdout=subprocess.DEVNULL)
    newest = max(set(results.glob("*.json")) - before)
    run = json.loads(newest.read_text(encoding="utf-8"))
    return {(name, figure["name"]): figure["value"] for name, figures in run["figures"].items() for figure in figures}


def told(theirs: Values, ours: Values) -> Iterator[tuple[str, bool]]:
    """A line for each figure, and whether it differs beyond noise in every round. The ratio is this checkout's value to the other's."""
    for (benchmark, name), values in ours.items():
        others = theirs.get((benchmark, name))
        if others is None or not all(others):
            continue
        ratios = [one / two for one, two in zip(values, others, strict=True)]
        differs = min(ratios) > 1 + NOISE or max(ratios) < 1 - NOISE
        spread = f"{median(ratios):.3f} x ({min(ratios):.3f} to {max(ratios):.3f})"
        yield f"{benchmark} {name}: {spread}{'  DIFFERS' if differs else ''}", differs
