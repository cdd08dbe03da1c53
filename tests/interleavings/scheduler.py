"""One schedule: operations on sessions of their own, one step of one of them at a time, until all have ended or all that is left was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from . import footprints
from .footprints import Footprint, Held, dependent
from .gate import COMMIT, DONE, READY, RUNNING, TIMEOUT, VICTIM, WAITING, Pending, Player
from .monitor import Monitor, together

STEP = "step"
LOOK_FIRST_S, LOOK_EVERY_S, STUCK_S = 0.002, 0.0015, 30.0
MOST_STEPS = 600
# PostgreSQL's deadlock_timeout, which the servers' own never reaches here: who waits longer than that may be the one who is ended.
DEADLOCK_S = 1.0


class Choice(NamedTuple):
    """Whose turn it is, and to do what: its next step, or to end its wait by its time-out or as a deadlock's victim."""

    player: int
    kind: str = STEP

    def __str__(self) -> str:
        return f"{self.player}{'' if self.kind == STEP else 't' if self.kind == TIMEOUT else 'v'}"


@dataclass(slots=True)
class Step:
    """What one choice did. `players`: whose statements moved: the one whose turn it was, and those that waited for it.

    `held`: what these hold after it. `passed`: whose commits of nothing were passed over.
    """

    choice: Choice
    label: str
    players: frozenset[int] = frozenset()
    footprint: Footprint = field(default_factory=Footprint)
    waits: bool = False
    error: str = ""
    held: dict[int, Held] = field(default_factory=dict)
    passed: tuple[int, ...] = ()

    def __str__(self) -> str:
        told = " (waits)" if self.waits else f" ({self.error})" if self.error else ""
        return f"{self.choice}: {self.label}{told}"


class Stuck(Exception):
    """The machinery itself cannot go on: no finding about the product."""


class Diverged(Exception):
    """A schedule that was seen before went another way: time, or a session's memory, had a part in it."""


class Run:
    """`players` take their turns as `step` says. `timeouts`: how often each may end a wait by its time-out while others could go on.

    `fair`: who naps again and again goes on only after another has moved.
    """

    def __init__(self, players: Sequence[Player], monitor: Monitor, *, timeouts: int = 1, fair: bool = True) -> None:
        self.players, self.monitor, self.fair = players, monitor, fair
        self.steps: list[Step] = []
        self.left = dict.fromkeys(range(len(players)), timeouts)
        self._held: dict[int, Held] = {}
        for player in players:
            player.thread.start()
            if not player.arrived.wait(STUCK_S):
                raise Stuck(f"{player.name} never came to its first statement")

    # What can be done next -----------------------------------------------------------------------------------------------------

    def enabled(self) -> list[Choice]:
        able = [n for n, player in enumerate(self.players) if player.state == READY]
        ready = [Choice(n) for n in able if not (self.fair and self.players[n].yields)] or [Choice(n) for n in able]
        waiting = [n for n, player in enumerate(self.players) if player.state == WAITING]
        if not waiting:
            return ready
        cycle = self._cycle(waiting)
        bounded = [n for n in waiting if self.players[n].bound_s]
        soon = [n for n in cycle if 0 < self.players[n].bound_s < DEADLOCK_S]
        ends = [Choice(n, TIMEOUT) for n in bounded if self.left[n] > 0 or not ready or n in cycle]
        if cycle and not soon:
            ends += [Choice(n, VICTIM) for n in cycle if not self.players[n].bound_s or self.players[n].bound_s > DEADLOCK_S]
        return ready + ends

    def _cycle(self, waiting: Sequence[int]) -> list[int]:
        """Of those that wait, the ones that wait for each other in a circle."""
        waits_for = {n: self._blocking(n) for n in waiting}
        return [n for n in waiting if n in _reached(n, waits_for)]

    def _blocking(self, number: int) -> set[int]:
        return {self._player_of(pid) for pid in self._blockers(number)} - {-1}

    def _blockers(self, number: int) -> list[int]:
        pending = self.players[number].pending
        return self.monitor.blockers(pending.connection.pid) if pending else []

    def _player_of(self, pid: int) -> int:
        return next((n for n, player in enumerate(self.players) if pid in player.connections), -1)

    # Taking a turn -------------------------------------------------------------------------------------------------------------

    def step(self, choice: Choice, known: Step | None = None) -> Step:
        """`known`: what the same choice did before, at the same place: then it is not looked at again."""
        player, waiting = self.players[choice.player], self._waiting()
        pending = player.pending
        if pending is None or (known is None and choice not in self.enabled()):
            raise Diverged(f"{choice} was possible after {len(self.steps)} steps, and is not now")
        if len(self.steps) > MOST_STEPS:
            raise Stuck(f"no end after {MOST_STEPS} steps")
        label = f"{player.name}: {shown(pending.sql) if choice.kind == STEP else choice.kind}"
        step = Step(choice, label, frozenset([choice.player]))
        self.steps.append(step)
        was = {n: self.players[n].pending for n in [choice.player, *waiting]}
        self._move(player, choice)
        moved = [choice.player, *self._settle(choice.player, [n for n in waiting if n != choice.player])]
        if known is None:
            self._look(step, moved, was)
        else:
            self._trust(step, moved, known)
        return step

    def _move(self, player: Player, choice: Choice) -> None:
        for other in self.players:
            other.yields = other.yields and other is player
        if choice.kind == STEP:
            player.go()
        else:
            self._end_wait(player, choice)

    def _trust(self, step: Step, moved: Sequence[int], known: Step) -> None:
        if known.label != step.label or known.players != frozenset(moved):
            raise Diverged(f"step {len(self.steps)} was {known} and is {step}")
        step.footprint, step.players, step.held, step.passed = known.footprint, known.players, known.held, known.passed
        self._held |= known.held
        for number in known.passed:
            if self.players[number].state != READY or self.players[number].pending.sql != COMMIT:  # type: ignore[union-attr]
                raise Diverged(f"after step {len(self.steps)} a commit was passed over that is not there now")
            self.players[number].go()
            self._until_still(number)
        self._tell(step)

    def _end_wait(self, player: Player, choice: Choice) -> None:
        assert player.pending is not None
        player.verdict, player.state = choice.kind, RUNNING
        bound_s = player.bound_s if choice.kind == TIMEOUT else DEADLOCK_S
        player.pass_time(bound_s)
        self.left[choice.player] -= 1
        player.arrived.clear()
        self.monitor.cancel(player.pending.connection.pid)

    def _waiting(self) -> list[int]:
        return [n for n, player in enumerate(self.players) if player.state == WAITING]

    def _settle(self, actor: int, waiting: Sequence[int]) -> list[int]:
        """Until nobody's statement runs any more; returns whose waiting ended."""
        self._until_still(actor)
        moved: list[int] = []
        left = list(waiting)
        while freed := [n for n in left if not self._still_waits(n)]:
            for number in freed:
                self._until_still(number)
            moved += freed
            left = [n for n in left if n not in freed]
        return moved

    def _still_waits(self, number: int) -> bool:
        return not self.players[number].arrived.is_set() and self._blocking(number) != set()

    def _until_still(self, number: int) -> None:
        player = self.players[number]
        if player.arrived.wait(LOOK_FIRST_S):
            return
        deadline = time.monotonic() + STUCK_S
        while not player.arrived.wait(LOOK_EVERY_S):
            if player.verdict is None and self._blocking(number):  # with a verdict, its wait is about to end
                player.state = WAITING
                return
            if time.monotonic() > deadline:
                raise Stuck(
                    f"{player.name} neither ends nor waits for another: {shown(player.pending.sql if player.pending else '')}"
                )

    # What it touched -----------------------------------------------------------------------------------------------------------

    def _look(self, step: Step, moved: Sequence[int], was: dict[int, Pending | None]) -> None:
        after = self._after(moved, was)
        for number in dict.fromkeys(moved):
            player, pending = self.players[number], was[number]
            assert pending is not None
            step.footprint |= self._footprint(player, pending, self._held.get(number, Held()), after[number])
            self._held[number] = after[number]
        step.players |= frozenset(moved)
        step.passed = self._pass_over_empty_commits(moved)
        step.held = {number: self._held[number] for number in moved}
        self._tell(step)

    def _tell(self, step: Step) -> None:
        player = self.players[step.choice.player]
        step.waits = player.state == WAITING
        step.error = "rolled back" if player.rolled_back else ""

    def _after(self, moved: Sequence[int], was: dict[int, Pending | None]) -> dict[int, Held]:
        """What they hold now. Nothing is asked of one whose only session has just committed: it gave up all but a session's own locks."""
        free = [n for n in moved if self._has_let_go(n, was[n])]
        asked = [n for n in moved if n not in free]
        return {n: Held() for n in free} | (self._now(asked) if asked else {})

    def _has_let_go(self, number: int, was: Pending | None) -> bool:
        player, before = self.players[number], self._held.get(number, Held())
        alone = len(player.connections) == 1 and not (before.advisory or before.shared)
        return alone and not player.rolled_back and was is not None and was.sql == COMMIT

    def _now(self, moved: Sequence[int]) -> dict[int, Held]:
        pids = [pid for number in moved for pid in self.players[number].pids]
        held = self.monitor.held(pids)
        return {number: together([held[pid] for pid in self.players[number].pids]) for number in moved}

    def _footprint(self, player: Player, pending: Pending, before: Held, after: Held) -> Footprint:
        mentioned = self.monitor.mentions.of(pending.sql)
        if pending.opaque:
            return Footprint(reads=mentioned, everything=True)
        watched = Footprint(locks=footprints.WATCHED if pending.watched else footprints.NONE)
        if player.rolled_back:
            return watched | footprints.of_rollback(before, mentioned, snapshot=pending.snapshot)
        if pending.sql == COMMIT:
            return watched | footprints.of_commit(before)
        return watched | footprints.of_statement(before, after, mentioned, snapshot=pending.snapshot, frozen=pending.frozen)

    def _pass_over_empty_commits(self, moved: Sequence[int]) -> tuple[int, ...]:
        """The commit of what has changed nothing is no step: nobody can tell when it was."""
        passed = []
        for number in dict.fromkeys(moved):
            player = self.players[number]
            while player.state == READY and player.pending.sql == COMMIT and self._held[number].nothing:  # type: ignore[union-attr]
                was: dict[int, Pending | None] = {number: player.pending}
                player.go()
                self._until_still(number)
                self._held[number] = self._after([number], was)[number]
                passed.append(number)
        return tuple(passed)

    # The end -------------------------------------------------------------------------------------------------------------------

    def over(self) -> bool:
        return all(player.state == DONE for player in self.players)

    def abandon(self) -> None:
        """End all that still runs; every session is idle afterwards."""
        for player in self.players:
            player.abandoned = True
        for player in self.players:
            self._end(player)

    def _end(self, player: Player) -> None:
        deadline = time.monotonic() + STUCK_S
        while player.thread.is_alive():
            if player.state == READY:
                player.go()
            elif player.pending is not None:
                self.monitor.cancel(player.pending.connection.pid)
            player.thread.join(0.005)
            if time.monotonic() > deadline:
                raise Stuck(f"{player.name} cannot be ended")

    def trace(self) -> Iterator[str]:
        yield from (str(step) for step in self.steps)


def _reached(start: int, waits_for: dict[int, set[int]]) -> set[int]:
    found: set[int] = set()
    front = set(waits_for.get(start, ()))
    while front:
        found |= front
        front = {further for each in front for further in waits_for.get(each, ())} - found
    return found


_known: dict[str, str] = {}


def name_statements(names: dict[str, str]) -> None:
    """Texts of statements and what they are called in a trace."""
    _known.update(names)


def shown(sql: str) -> str:
    return _known.get(sql.strip()) or " ".join(sql.split())[:90]


Deciding = Callable[[Run, list[Choice]], Choice | None]

__all__ = ["Choice", "Deciding", "Diverged", "Monitor", "Run", "Step", "Stuck", "dependent", "shown"]
