"""A writer whose transaction stays open: whatever else runs must end by itself, within its bound, and have done what is not locked."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case, Explorer, Result, Violation, written
from .gate import COMMIT, DONE, READY, TIMEOUT, WAITING
from .operations import APPLICATION, HAND
from .scheduler import Choice, Run
from .search import Found
from .stage import Book
from .world import World

# Of the articles that the open transaction does not touch, the ones for which the operation has done nothing.
UNDONE = {
    "rescue": "SELECT article_id FROM embedding_tasks WHERE status = 'processing' AND article_id <> 'a'",
    "hand_over": "SELECT article_id FROM embedding_tasks WHERE status = 'processing' AND article_id <> 'a'",
    "cancel": "SELECT article_id FROM embedding_tasks WHERE status IN ('pending', 'processing') AND article_id <> 'a'",
    "settle_embedded": "SELECT id FROM articles WHERE embedding_status <> 'ready' AND id <> 'a'",
    "reconcile": "SELECT id FROM article_texts a WHERE a.id <> 'a' AND NOT EXISTS (SELECT FROM embedding_tasks t WHERE t.article_id = a.id)",
    "reindex": "SELECT id FROM article_texts a WHERE a.id <> 'a' AND NOT EXISTS ("
    "SELECT FROM embedding_tasks t WHERE t.article_id = a.id AND t.status = 'pending')",
}
ONLY_THE_FIRST = {"edit", "move", "delete", "born_again"}


def freezable(case: Case) -> bool:
    kinds = [operation.kind for operation in case.operations]
    return len(kinds) == 2 and kinds.count(APPLICATION) == 1 and HAND not in kinds


def explore_frozen(explorer: Explorer, case: Case) -> Result:
    """The writer stands still after each of its statements in turn."""
    result = Result(case, Found())
    writer = next(n for n, operation in enumerate(case.operations) if operation.kind == APPLICATION)
    taken, more = 0, True
    while more:
        taken += 1
        more = _one(explorer, case, writer, taken, result)
    return result


def _one(explorer: Explorer, case: Case, writer: int, taken: int, result: Result) -> bool:
    """False when the writer has no open transaction after so many steps."""
    book = Book()
    run = explorer.begin(case, book, timeouts=1000, fair=False)
    try:
        for _ in range(taken):
            run.step(Choice(writer))
            if run.players[writer].state != READY:
                return False
        result.found.runs += 1
        problems = [*_other_ends(run, case, 1 - writer)]
        problems += [] if problems else [*_undone(explorer.world, case, writer)]
        more = run.players[writer].pending is not None and run.players[writer].pending.sql != COMMIT
        _finish(run, writer)
    finally:
        run.abandon()
    problems += explorer.judge(case, run, book)
    result.violations += [Violation(case, problem, written(case, run), list(run.trace())) for problem in problems]
    return more


def _other_ends(run: Run, case: Case, other: int) -> Iterator[str]:
    player, operation = run.players[other], case.operations[other]
    while player.state != DONE:
        if player.state == WAITING and not player.bound_s:
            yield f"{operation.name} ({operation.kind}) waits without a bound for a lock of an open transaction: {run.steps[-1].label}"
            return
        run.step(Choice(other, TIMEOUT if player.state == WAITING else "step"))
        if player.waited_s > operation.bound_s:
            yield f"{operation.name} ({operation.kind}) has waited {player.waited_s:.1f} s for an open transaction, and goes on"
            return


def _undone(world: World, case: Case, writer: int) -> Iterator[str]:
    name = case.names[1 - writer]
    if case.names[writer] in ONLY_THE_FIRST and case.state.startswith("three") and name in UNDONE:
        left = [row[0] for row in world.sql(UNDONE[name])]
        if left:
            yield f"{name} has done nothing for {', '.join(left)} because an open transaction holds article a"


def _finish(run: Run, writer: int) -> None:
    while not run.over():
        choices = run.enabled()
        run.step(next((choice for choice in choices if choice.player == writer), choices[0]))
