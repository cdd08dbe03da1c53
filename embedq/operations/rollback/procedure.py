"""Runs procedures: named steps in order. Each step is planned, performed, checked, timed and recorded.

The journal is the audit log. The next call of the same procedure resumes a run that died: a step that is done and whose check still passes
is not repeated, and every step is idempotent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from ...broker import Broker
from ...errors import EmbedqError, NotFound, NotWell, TakenOver
from ...settings import Settings
from ...store import Store
from ...store.fence import acting_for, told
from ...store.procedures import BEGUN, DONE, FAILED, SKIPPED, Run
from .notice import announced

NOT_WELL = 3
EMERGENCY = "emergency"
# Seconds after which a step of an emergency reports that it is still under way.
SILENT_S = 60.0
HOW_ENDED = ("ended well", "ended, and verify is not content")
TROUBLE = (EmbedqError, psycopg.Error, OSError)
BUSY = (
    "another procedure is under way: wait for it; `embedq rollback report` shows how far it is; if its process hangs, "
    "`embedq rollback emergency` takes over"
)


@dataclass(slots=True)
class Scene:
    """The context of a step. `folder`: for backups; `run`: the journal of this run (None for a plan).

    `fenced_at` (monotonic): when this process switched the mode. `webhook`: an address that is told of beginning and end; `untold`: why it
    could not be told.
    """

    store: Store
    broker: Broker
    settings: Settings
    who: str
    reason: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None
    run: Run | None = None
    fenced_at: float | None = None
    webhook: str | None = None
    untold: str | None = None

    @property
    def name(self) -> str:
        return self.run.run if self.run else "plan"

    def noted(self, step: str) -> Mapping[str, Any]:
        """The values that an earlier step of this run recorded."""
        return self.run.notes.get(step, {}) if self.run else {}


@dataclass(frozen=True, slots=True)
class Did:
    """The result of a step. `skipped`: it could not run, and the procedure continues without it."""

    message: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    skipped: bool = False


def holds(_: Scene) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """`will`: what it would do now, with current counts; `check`: what is wrong afterwards, or None; `takes_s`: estimated seconds.

    If a step that is not `essential` fails, the procedure warns and continues.
    """

    name: str
    will: Callable[[Scene], str]
    do: Callable[[Scene], Did]
    check: Callable[[Scene], str | None] = holds
    takes_s: Callable[[Scene], float] = lambda _: 0.1
    essential: bool = True


@dataclass(frozen=True, slots=True)
class Procedure:
    """A kind of procedure, its description and its steps in order."""

    kind: str
    about: str
    steps: Sequence[Step]
    back: str


@dataclass(slots=True)
class Ended:
    """`wrong`: settings that were changed by others since a step set them."""

    run: Run
    exit_code: int
    seconds: float
    resumed: bool
    warnings: list[str]
    wrong: list[str] = field(default_factory=list)


def perform(procedure: Procedure, scene: Scene, options: Mapping[str, Any]) -> Ended:
    """Begin the procedure, or resume a run that died. Raises NotWell naming the failed step; the next call continues there.

    An emergency always begins: it takes over from any other procedure, even if its process is alive.
    """
    started = time.monotonic()
    with _alone(procedure, scene) as taken_from_living:
        left = scene.store.procedures.unfinished()
        resumed = left is not None and left.kind == procedure.kind and not taken_from_living
        scene.run = left if left is not None and resumed else _begin(procedure, scene, left, options)
        scene.options = scene.run.options
        if resumed:
            scene.say(f"{procedure.kind}: taking up the run of {scene.run.began_at:%H:%M:%S} that did not end")
        with announced(scene) as results:
            _steps(procedure, scene)
            ended = _ended(procedure, scene, started, resumed)
            results.update(exit_code=ended.exit_code, seconds=round(ended.seconds, 2), warnings=[*ended.wrong, *ended.warnings])
        return ended


def _steps(procedure: Procedure, scene: Scene) -> None:
    assert scene.run is not None
    with acting_for(scene.run.run):
        for number, step in enumerate(procedure.steps, 1):
            scene.store.procedures.refuse_if_taken_over(scene.run)
            _step(step, f"{number}/{len(procedure.steps)} {step.name}", scene)


def _ended(procedure: Procedure, scene: Scene, started: float, resumed: bool) -> Ended:
    """End the run; repeats the checks of all steps, to find what others have changed since."""
    assert scene.run is not None
    wrong = [found for step in procedure.steps if step.essential and (found := step.check(scene)) is not None]
    verified = int(scene.noted("verify").get("exit_code", 0))
    exit_code = NOT_WELL if wrong else verified
    scene.store.procedures.end(scene.run, exit_code, "; ".join(["ended", *wrong]) if wrong else HOW_ENDED[bool(verified)])
    warnings = [str(note["message"]) for note in scene.run.notes.values() if note["state"] == SKIPPED]
    return Ended(scene.run, exit_code, time.monotonic() - started, resumed, warnings, wrong)


@contextmanager
def _alone(procedure: Procedure, scene: Scene) -> Iterator[bool]:
    """The lock for one procedure at a time. True if the session of another was ended for this one."""
    with ExitStack() as stack:
        taken_over = False
        try:
            stack.enter_context(scene.store.switches.alone("procedure", BUSY))
        except NotWell:
            if not _may_take_over(procedure, scene.store):
                raise
            holder = scene.store.fence.end_procedure()
            if holder is not None:
                scene.say(f"{procedure.kind}: takes over from the procedure under way: {told(holder)}")
            stack.enter_context(scene.store.switches.alone("procedure", BUSY))
            taken_over = True
        yield taken_over


def _may_take_over(procedure: Procedure, store: Store) -> bool:
    """Whether this procedure may take over: an emergency may, except from another emergency that has reported within the longest duration
    of a step."""
    if procedure.kind != EMERGENCY:
        return False
    under_way = store.procedures.unfinished()
    if under_way is None or under_way.kind != EMERGENCY or under_way.last_at is None:
        return True
    return (datetime.now(UTC) - under_way.last_at).total_seconds() > SILENT_S


def _begin(procedure: Procedure, scene: Scene, left: Run | None, options: Mapping[str, Any]) -> Run:
    if left is not None and procedure.kind not in (EMERGENCY, "undo"):
        raise NotWell(
            f"an earlier procedure, {left.kind}, did not end",
            hint=f"`embedq rollback {left.kind} --reason …` takes it up, or `embedq rollback undo --reason …` goes back",
        )
    scene.say(f"{procedure.kind}: {procedure.about}")
    wanted = {"who": scene.who, "reason": scene.reason} | dict(options)
    if left is None or procedure.kind == "undo":
        return scene.store.procedures.begin(procedure.kind, wanted)
    scene.say(f"{procedure.kind}: takes over from {left.kind} (run {left.run}), which did not end")
    return scene.store.procedures.begin(procedure.kind, wanted | _inherited(left), instead_of=left)


def _inherited(left: Run) -> dict[str, Any]:
    """The options taken over from the replaced run: undo returns to the state before the first run, and steps find the other's maintenance window."""
    before = left.options.get("to" if left.kind == "undo" else "mode_before")
    return {"took_over": left.run} | ({"mode_before": before} if before else {})


def _step(step: Step, title: str, scene: Scene) -> None:
    assert scene.run is not None
    if scene.noted(step.name).get("state") == DONE and step.check(scene) is None:
        scene.say(f"{title}: done before")
        return
    started, journal = time.monotonic(), scene.store.procedures
    scene.say(f"{title}: {step.will(scene)}")
    journal.note(scene.run, step.name, BEGUN, "begun")
    try:
        did = _done_and_checked(step, scene)
    except TakenOver:
        raise  # nothing to repair or record here
    except TROUBLE as trouble:
        if step.essential:
            journal.note(scene.run, step.name, FAILED, str(trouble), seconds=time.monotonic() - started)
            raise _stopped(step, scene.run, trouble) from trouble
        did = Did(f"skipped: {trouble}", skipped=True)
    state, seconds = SKIPPED if did.skipped else DONE, time.monotonic() - started
    journal.note(scene.run, step.name, state, did.message, seconds=seconds, **did.notes)
    scene.say(f"{title}: {'warning: ' if did.skipped else ''}{did.message} ({seconds:.1f} s)")


def _done_and_checked(step: Step, scene: Scene) -> Did:
    did = step.do(scene)
    wrong = step.check(scene)
    if wrong is not None:
        raise NotWell(wrong, hint="see `embedq rollback report`")
    return did


def _stopped(step: Step, run: Run, trouble: Exception) -> NotWell:
    hint = f"put right what it names and call `embedq rollback {run.kind}` again: it continues at this step; or `embedq rollback undo`"
    return NotWell(f"step {step.name} failed: {trouble}", hint=f"{getattr(trouble, 'hint', '')}; {hint}".lstrip("; "))


def planned_steps(procedure: Procedure, scene: Scene) -> list[dict[str, Any]]:
    """What each step would do now, with current counts and estimated time; changes nothing."""
    return [{"step": step.name, "will": step.will(scene), "takes_s": round(step.takes_s(scene), 1)} for step in procedure.steps]


def run_to_undo(store: Store) -> Run:
    """The latest run that changed something and was not undone. Raises NotFound."""
    latest = store.procedures.latest(20)
    others = {run.options.get("took_over") for run in latest}
    for run in latest:
        if run.kind not in ("undo", "rehearsal") and not run.undone and run.run not in others:
            return run
    raise NotFound(
        "there is no procedure to undo",
        hint='`embedq mode celery --reason "…"` switches by itself; `embedq mode` shows what runs',
    )
