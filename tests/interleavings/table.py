"""What an exploration found, in figures and for people."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from .case import Result, Violation


@dataclass(slots=True)
class Tally:
    wanted: int
    isolation: str
    began: float = field(default_factory=time.time)
    done: int = 0
    runs: int = 0
    pruned: int = 0
    diverged: int = 0
    retried: int = 0
    ends: int = 0
    cut: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result | str) -> None:
        self.done += 1
        if isinstance(result, str):
            self.broken.append(result)
            return
        self.runs += result.found.runs
        self.pruned += result.found.pruned
        self.diverged += result.found.diverged
        self.retried += result.retried
        self.ends += result.ends
        self.outcomes += result.outcomes
        self.violations += result.violations
        if not result.found.complete and not result.violations:
            self.cut.append(str(result.case))

    def line(self, result: Result | str) -> str:
        if isinstance(result, str):
            return f"broken: {result}"
        told = "".join(f"\n    {violation.problem}\n    {violation.schedule}" for violation in result.violations)
        return f"{result.case}: {result.found.runs} schedules, {result.found.pruned} pruned, {result.seconds:.1f} s{told}"

    def table(self, traces: int) -> str:
        seconds = time.time() - self.began
        rows = [
            ("cases explored", f"{self.done} of {self.wanted}" + ("" if self.done == self.wanted else ": the time was up")),
            ("schedules run to their end", f"{self.runs:,}"),
            ("schedules pruned", f"{self.pruned:,} begun and left; all others were never begun"),
            ("different ends, each cared for and judged", f"{self.ends:,} (those that both processes met count twice)"),
            ("schedules a second", f"{(self.runs + self.pruned) / max(seconds, 1e-9):.1f} in {seconds:.0f} s"),
            (
                "with a wait for a lock; time-outs; deadlocks",
                "; ".join(f"{self.outcomes[n]:,}" for n in ("waits", "time-outs", "deadlocks")),
            ),
            ("serialization failures that writers met and repeated", self.retried),
            ("schedules that could not be repeated", self.diverged),
            ("cases cut short by --most, --minutes or what could not be repeated", len(self.cut)),
            ("cases that the tool itself could not run", len(self.broken)),
            ("violations", f"{len(self.violations)} in {len({str(v.case) for v in self.violations})} cases"),
        ]
        text = [f"{name:<68} {value}" for name, value in rows]
        text += [f"cut short: {case}" for case in self.cut[:20]] + [f"broken: {told}" for told in self.broken[:20]]
        text += [f"{times:>5} × {kind}" for kind, times in self.kinds().most_common(40)]
        for violation in self.violations[:traces]:
            text += ["", f"{violation.case}: {violation.problem}", *(f"    {line}" for line in violation.trace)]
            text.append(f"    scripts/explore --replay {violation.schedule}")
        return "\n".join(text)

    def kinds(self) -> Counter[str]:
        return Counter(violation.problem for violation in self.violations)
