"""All schedules that differ: depth first, each from the start state anew, without those that only exchange what cannot be told apart.

Dynamic partial order reduction with source sets and sleep sets (Abdulla, Aronis, Jonsson, Sagonas: "Optimal dynamic partial order
reduction", POPL 2014; Flanagan and Godefroid, POPL 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .footprints import Footprint
from .scheduler import STEP, Choice, Diverged, Run, Step, dependent


@dataclass(slots=True)
class Node:
    """A state on the way: what could be done there, what was, and what need not be because it was done earlier to the same end."""

    enabled: list[Choice]
    sleep: dict[Choice, Step]
    todo: set[Choice] = field(default_factory=set)
    done: dict[Choice, Step] = field(default_factory=dict)
    chosen: Choice | None = None

    def left(self) -> list[Choice]:
        return [
            choice for choice in self.enabled if choice in self.todo and choice not in self.done and choice not in self.sleep
        ]


@dataclass(slots=True)
class Found:
    """`runs`: schedules to their end. `pruned`: those that were left where only what was seen before could follow."""

    runs: int = 0
    pruned: int = 0
    diverged: int = 0
    complete: bool = True


Begin = Callable[[], Run]
Judge = Callable[[Run], bool]


class Search:
    """`begin` makes the start state and a run; `judge` looks at a run that has ended, and says whether to go on."""

    def __init__(
        self,
        begin: Begin,
        judge: Judge,
        *,
        reduced: bool = True,
        most: int = 1_000_000,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.begin, self.judge, self.reduced, self.most, self.goes_on = begin, judge, reduced, most, goes_on
        self.found = Found()
        self._nodes: list[Node] = []

    def all(self) -> Found:
        first = True
        while first or self._next():
            first = False
            if self.found.runs + self.found.pruned >= self.most or not self.goes_on():
                self.found.complete = False
                break
            if not self._one():
                self.found.complete = False
                break
        return self.found

    def _next(self) -> bool:
        """Go back to the last state where something is left to do."""
        while self._nodes:
            node = self._nodes[-1]
            if left := node.left():
                node.chosen = left[0]
                return True
            self._nodes.pop()
        return False

    def _one(self, tries: int = 3) -> bool:
        depth = len(self._nodes)
        for left in reversed(range(tries)):
            run = self.begin()
            try:
                ended = self._follow(run)
            except Diverged:
                self.found.diverged += 1
                del self._nodes[depth:]
                if not left:
                    self._give_up()
                    return True
                continue
            finally:
                run.abandon()
            self._races(run.steps)
            self.found.runs += ended
            self.found.pruned += not ended
            return self.judge(run) if ended else True
        return True

    def _give_up(self) -> None:
        """What cannot be repeated is left, and excuses nothing else."""
        self.found.complete = False
        if self._nodes:
            node = self._nodes[-1]
            assert node.chosen is not None
            node.done[node.chosen] = Step(node.chosen, "diverged", footprint=Footprint(everything=True))

    def _follow(self, run: Run) -> bool:
        """To the end, or to where everything sleeps. False: nothing new is there."""
        depth = 0
        while not run.over():
            if depth == len(self._nodes):
                node = self._enter(run, depth)
                if node is None:
                    return False
            node = self._nodes[depth]
            assert node.chosen is not None
            step = run.step(node.chosen, node.done.get(node.chosen))
            node.done[node.chosen] = step
            depth += 1
        return True

    def _enter(self, run: Run, depth: int) -> Node | None:
        enabled = run.enabled()
        node = Node(enabled, self._asleep(depth) if self.reduced else {})
        awake = [choice for choice in enabled if choice not in node.sleep]
        if not awake:
            return None
        last = self._nodes[-1].chosen.player if self._nodes else -1  # type: ignore[union-attr]
        node.chosen = next((choice for choice in awake if choice == (last, STEP)), awake[0])
        node.todo = {node.chosen, *(choice for choice in enabled if choice.kind != STEP)} if self.reduced else set(enabled)
        self._nodes.append(node)
        return node

    def _asleep(self, depth: int) -> dict[Choice, Step]:
        """What was done one state earlier and does not depend on the step that led here would lead where we were."""
        if not depth:
            return {}
        before = self._nodes[depth - 1]
        assert before.chosen is not None
        step = before.done[before.chosen]
        others = before.sleep | {choice: done for choice, done in before.done.items() if choice != before.chosen}
        return {choice: done for choice, done in others.items() if not _related(done, step)}

    def _races(self, steps: Sequence[Step]) -> None:
        if not self.reduced:
            return
        before = happened_before(steps)
        for later in range(len(steps)):
            for earlier in range(later):
                if steps[earlier].choice.player != steps[later].choice.player and _race(steps, before, earlier, later):
                    self._reverse(steps, before, earlier, later)

    def _reverse(self, steps: Sequence[Step], before: Sequence[int], earlier: int, later: int) -> None:
        """The other order of the two must be tried: somebody who could begin it must be let go first where `earlier` was."""
        node = self._nodes[earlier]
        rest = [k for k in range(earlier + 1, later) if not before[k] >> earlier & 1] + [later]
        beginners: list[Choice] = []
        for place, k in enumerate(rest):
            if all(not before[k] >> other & 1 for other in rest[:place]):
                beginners.append(Choice(steps[k].choice.player))
        if any(choice in node.todo for choice in beginners):
            return
        able = [choice for choice in beginners if choice in node.enabled]
        node.todo |= set(able[:1]) if able else set(node.enabled)


def happened_before(steps: Sequence[Step]) -> list[int]:
    """For each step, as bits, the steps that cannot be exchanged with it, directly or over others between them."""
    before: list[int] = []
    for later, step in enumerate(steps):
        bits = 0
        for earlier in reversed(range(later)):
            if not bits >> earlier & 1 and _related(steps[earlier], step):
                bits |= 1 << earlier | before[earlier]
        before.append(bits)
    return before


def _race(steps: Sequence[Step], before: Sequence[int], earlier: int, later: int) -> bool:
    """They depend on each other, and on nothing between them."""
    if not before[later] >> earlier & 1 or not _related(steps[earlier], steps[later]):
        return False
    return not any(before[k] >> earlier & 1 and before[later] >> k & 1 for k in range(earlier + 1, later))


def _related(one: Step, other: Step) -> bool:
    return bool(one.players & other.players) or dependent(one.footprint, other.footprint)


__all__ = ["Footprint", "Found", "Search"]
