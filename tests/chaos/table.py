"""A run in figures, for people."""

from __future__ import annotations

from collections.abc import Iterator

from .run import Result


def table(result: Result) -> str:
    return "\n".join(f"{name:<42} {value}" for name, value in [*_faults(result), ("", ""), *_figures(result)])


def _faults(result: Result) -> Iterator[tuple[str, object]]:
    yield f"faults (seed {result.seed}, {result.seconds:g} s)", result.injected.total()
    for name, times in sorted(result.injected.items()):
        tried = result.impossible[name]
        yield f"  {name}", f"{times}" + (f" ({tried} more could not be done just then)" if tried else "")


def _figures(result: Result) -> Iterator[tuple[str, object]]:
    book, verdict = result.book, result.verdict
    yield "articles written", ", ".join(f"{number} {what}" for what, number in sorted(book.done.items()))
    yield "serialization failures, tried again", book.serialization_failures
    yield "saves failed while PostgreSQL was up", len(book.broken_saves)
    yield "saves failed with PostgreSQL", book.excused
    yield "slowest save that succeeded", f"{book.slowest_s:.2f} s"
    yield "samples; looks at the fence", f"{result.samples}; {result.fences}"
    yield "nothing open after", f"{result.settled_after_s:.1f} s"
    yield "live articles", len(book.live)
    yield "tasks", f"{verdict.tasks}: " + ", ".join(f"{n} {status}" for status, n in sorted(verdict.by_status.items()))
    yield "innocent tasks failed before the retry", len(result.innocent_failed)
    yield "lost", len(verdict.lost)
    yield "stale", len(verdict.stale)
    yield "wrong vectors", len(verdict.wrong)
    yield "other problems", len(result.problems) - len(verdict.lost) - len(verdict.stale) - len(verdict.wrong)
    yield "inputs paid for; twice", f"{verdict.paid}; {verdict.paid_twice} (at most {result.may_pay_twice} may be)"
