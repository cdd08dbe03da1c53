"""One case: operations on a start state, through all their schedules; and what each is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from embedq.errors import EmbedqError

from .gate import TIMEOUT, VICTIM, Player
from .invariants import Cared, Facts, after_care, at_once, fences, fingerprint
from .operations import APPLICATION, HAND, OPERATIONS, Operation
from .scheduler import Choice, Run
from .search import Found, Search
from .stage import Book, Scene, Stage
from .states import STATES, Making
from .world import World

READ_COMMITTED = "read committed"
ISOLATIONS = (READ_COMMITTED, "repeatable read", "serializable")
CALM = (EmbedqError, psycopg.errors.LockNotAvailable)


@dataclass(frozen=True, slots=True)
class Case:
    state: str
    names: tuple[str, ...]
    isolation: str = READ_COMMITTED

    def __str__(self) -> str:
        told = "" if self.isolation == READ_COMMITTED else f" [{self.isolation}]"
        return f"{self.state}/{'+'.join(self.names)}{told}"

    @property
    def operations(self) -> list[Operation]:
        return [OPERATIONS[name] for name in self.names]


@dataclass(slots=True)
class Violation:
    """`schedule` is replayed by `scripts/explore --replay`."""

    case: Case
    problem: str
    schedule: str
    trace: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """`ends`: what its schedules left in the tables and no case before it in the same process had."""

    case: Case
    found: Found
    violations: list[Violation] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    ends: int = 0
    seconds: float = 0.0


class Explorer:
    """Knows the start states of one world and what is known to be right."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._scenes: dict[str, Scene] = {}
        self._starts: dict[str, Facts] = {}
        self._defaults = ""
        self._judged: dict[str, list[str]] = {}
        self._cared: dict[str, Cared] = {}

    @property
    def ends_known(self) -> int:
        return len(self._cared)

    def scene(self, state: str) -> Scene:
        wanted = STATES[state]
        if state not in self._scenes:
            self.world.empty()
            making = Making(self.world)
            wanted.make(making)
            self.world.keep(f"state_{state}")
            self._starts[state] = Facts.of(self.world)
            self._scenes[state] = making.scene
        if self._defaults != wanted.defaults or not self.world.slots:
            self.world.open(wanted.defaults)
            self._defaults = wanted.defaults
        return self._scenes[state]

    def explore(
        self,
        case: Case,
        *,
        reduced: bool = True,
        most: int = 1_000_000,
        timeouts: int = 1,
        goes_on: Callable[[], bool] = lambda: True,
        stop_at: str | None = "",
    ) -> Result:
        return _Exploring(self, case, reduced, most, timeouts, goes_on, stop_at).all()

    def ends(self, case: Case, *, reduced: bool = True) -> set[str]:
        """What the tables hold after each of its schedules, and how each operation ended."""
        found: set[str] = set()

        def look(run: Run) -> bool:
            errors = [type(player.error).__name__ for player in run.players]
            found.add(fingerprint(Facts.of(self.world), str(errors)))
            return True

        Search(lambda: self.begin(case, Book()), look, reduced=reduced).all()
        return found

    def begin(self, case: Case, book: Book, timeouts: int = 1, *, fair: bool = True) -> Run:
        scene = self.scene(case.state)
        scene = Scene(scene.first, scene.second, scene.held, scene.held_by_second, dict(scene.dims), scene.model)
        self.world.restore(f"state_{case.state}", tables=any(operation.tables for operation in case.operations))
        players = []
        for slot, operation in zip(self.world.slots, case.operations, strict=False):
            stage = Stage(slot, scene, book, case.isolation if operation.kind == APPLICATION else READ_COMMITTED)
            players.append(Player(operation.name, lambda act=operation.act, stage=stage: act(stage)))
        run = Run(players, self.world.monitor, timeouts=timeouts, fair=fair)
        book.at = lambda: len(run.steps)
        return run

    def judge(self, case: Case, run: Run, book: Book) -> list[str]:
        found = [*self._ends(case, run), *fences(book)]
        facts = Facts.of(self.world)
        excuses = [*STATES[case.state].excuses, *(each for operation in case.operations for each in operation.excuses)]
        allowed = self._allowed(case, run)
        key = fingerprint(facts, f"{case.state}{case.isolation}{excuses}{sorted(book.bought.items())}{allowed}")
        if key not in self._judged:
            start = self._starts[case.state]
            now = [*at_once(facts, start, old_snapshot=case.isolation != READ_COMMITTED)]
            cared = self._cared_for(facts)
            bought = (book.bought + cared.bought).items()
            bill = [f"article {who[0]} was bought {times} times" for who, times in bought if times > allowed]
            self._judged[key] = list(dict.fromkeys(now + cared.problems_of(excuses, start) + bill))
        return found + self._judged[key]

    def _cared_for(self, facts: Facts) -> Cared:
        """Once for each end, in whichever case of the same start state it comes."""
        key = fingerprint(facts, self.world.at)
        if key not in self._cared:
            self._cared[key] = after_care(self.world)
        return self._cared[key]

    @staticmethod
    def _allowed(case: Case, run: Run) -> int:
        """How often the same text of an article may be bought for a model: once, once more for each operation that takes work out of a
        worker's hands or asks for it anew, and once more when a settle gave up waiting for an open transaction."""
        gave_up = any(step.choice.kind == TIMEOUT for step in run.steps)
        return 1 + sum(operation.buys_again for operation in case.operations) + gave_up

    @staticmethod
    def _ends(case: Case, run: Run) -> list[str]:
        found = []
        kinds = [operation.kind for operation in case.operations]
        for operation, player in zip(case.operations, run.players, strict=True):
            error = player.error
            if error is None or (isinstance(error, CALM) and operation.kind not in (APPLICATION, HAND)):
                continue
            if isinstance(error, psycopg.errors.DeadlockDetected) and (
                kinds.count(APPLICATION) + kinds.count(HAND) == len(kinds)
            ):
                continue  # two writers that lock the same articles in two orders: their own doing
            if (
                isinstance(error, psycopg.errors.UniqueViolation)
                and operation.kind == APPLICATION
                and "article_texts_pkey" in str(error)
            ):
                continue  # two of them insert the same id
            if isinstance(error, psycopg.errors.SerializationFailure) and operation.kind in (APPLICATION, HAND):
                continue
            ours = operation.kind not in (APPLICATION, HAND)
            if ours and isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure):
                continue  # it ends with an error that its caller meets by trying again
            first = str(error).strip().splitlines()[0] if str(error) else ""
            found.append(f"{operation.name} ({operation.kind}) ended with {type(error).__name__}: {first}")
        return found


class _Exploring:
    def __init__(
        self,
        explorer: Explorer,
        case: Case,
        reduced: bool,
        most: int,
        timeouts: int,
        goes_on: Callable[[], bool],
        stop_at: str | None,
    ) -> None:
        self.explorer, self.case, self.timeouts, self.stop_at = explorer, case, timeouts, stop_at
        self.result = Result(case, Found())
        self._book = Book()
        self._seen: set[str] = set()
        self.search = Search(self._begin, self._judge, reduced=reduced, most=most, goes_on=goes_on)

    def all(self) -> Result:
        self.result.found = self.search.all()
        return self.result

    def _begin(self) -> Run:
        self._book = Book()
        return self.explorer.begin(self.case, self._book, self.timeouts)

    def _judge(self, run: Run) -> bool:
        problems = self.explorer.judge(self.case, run, self._book)
        self.result.retried += self._book.retried
        self._count(run)
        for problem in problems:
            if problem not in self._seen:
                self._seen.add(problem)
                self.result.violations.append(Violation(self.case, problem, written(self.case, run), list(run.trace())))
        return self.stop_at is None or not any(self.stop_at in problem for problem in problems)

    def _count(self, run: Run) -> None:
        self.result.outcomes["waits"] += any(step.waits for step in run.steps)
        self.result.outcomes["time-outs"] += sum(step.choice.kind == TIMEOUT for step in run.steps)
        self.result.outcomes["deadlocks"] += sum(step.choice.kind == VICTIM for step in run.steps)


def written(case: Case, run: Run) -> str:
    isolation = case.isolation.replace(" ", "_")
    return f"{case.state}/{'+'.join(case.names)}/{isolation}/{','.join(str(step.choice) for step in run.steps)}"


def read(schedule: str) -> tuple[Case, list[Choice]]:
    state, names, isolation, choices = schedule.strip().split("/")
    case = Case(state, tuple(names.split("+")), isolation.replace("_", " "))
    return case, [_choice(word) for word in choices.split(",") if word]


def _choice(word: str) -> Choice:
    kinds: dict[str, str] = {"t": TIMEOUT, "v": VICTIM}
    return Choice(int(word.rstrip("tv")), kinds[word[-1]]) if word[-1] in kinds else Choice(int(word))


def replay(explorer: Explorer, case: Case, choices: Sequence[Choice]) -> tuple[Run, list[str]]:
    """The same schedule once more; what is not said any more goes on as it comes."""
    book = Book()
    run = explorer.begin(case, book)
    try:
        for choice in choices:
            run.step(choice)
        while not run.over():
            run.step(run.enabled()[0])
    finally:
        run.abandon()
    return run, explorer.judge(case, run, book)
