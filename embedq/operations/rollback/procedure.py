"""A procedure: named steps, in order. Each says what it will do, does it, checks it, is timed and on record.

The journal is the audit log. A run that died is taken up by the next call of the same procedure: a step that is done and
whose check still holds is not repeated, and every step may be repeated without harm.
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
    """What a step works with. `folder` gets backups; `run` is the journal of this run (none while only a plan is asked for).

    `fenced_at` (monotonic): when this process switched the mode.
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

    @property
    def name(self) -> str:
        return self.run.run if self.run else "plan"

    def noted(self, step: str) -> Mapping[str, Any]:
        """What an earlier step of this run left."""
        return self.run.notes.get(step, {}) if self.run else {}


@dataclass(frozen=True, slots=True)
class Did:
    """What a step did. `skipped`: it could not, and the procedure goes on without it."""

    message: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    skipped: bool = False


def holds(_: Scene) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """`will` says what it would do now, with real counts; `check` what is wrong afterwards, or None; `takes_s` is an estimate.

    What is not `essential` may fail: the procedure warns and goes on.
    """

    name: str
    will: Callable[[Scene], str]
    do: Callable[[Scene], Did]
    check: Callable[[Scene], str | None] = holds
    takes_s: Callable[[Scene], float] = lambda _: 0.1
    essential: bool = True


@dataclass(frozen=True, slots=True)
class Procedure:
    kind: str
    about: str
    steps: Sequence[Step]
    back: str


@dataclass(slots=True)
class Ended:
    """`wrong`: what was changed since a step set it."""

    run: Run
    exit_code: int
    seconds: float
    resumed: bool
    warnings: list[str]
    wrong: list[str] = field(default_factory=list)


def perform(procedure: Procedure, scene: Scene, options: Mapping[str, Any]) -> Ended:
    """Begin it, or take up the run that died. Raises NotWell naming the step that failed; the next call goes on there.

    An emergency always begins: it takes over from any other procedure, also from one whose process is alive.
    """
    started = time.monotonic()
    with _alone(procedure, scene) as taken_from_living:
        left = scene.store.procedures.unfinished()
        resumed = left is not None and left.kind == procedure.kind and not taken_from_living
        scene.run = left if left is not None and resumed else _begin(procedure, scene, left, options)
        scene.options = scene.run.options
        if resumed:
            scene.say(f"{procedure.kind}: taking up the run of {scene.run.began_at:%H:%M:%S} that did not end")
        with acting_for(scene.run.run):
            for number, step in enumerate(procedure.steps, 1):
                scene.store.procedures.refuse_if_taken_over(scene.run)
                _step(step, f"{number}/{len(procedure.steps)} {step.name}", scene)
        return _ended(procedure, scene, started, resumed)


def _ended(procedure: Procedure, scene: Scene, started: float, resumed: bool) -> Ended:
    """What others have changed since a step was done is found here: the end is what counts."""
    assert scene.run is not None
    wrong = [found for step in procedure.steps if step.essential and (found := step.check(scene)) is not None]
    verified = int(scene.noted("verify").get("exit_code", 0))
    exit_code = NOT_WELL if wrong else verified
    scene.store.procedures.end(scene.run, exit_code, "; ".join(["ended", *wrong]) if wrong else HOW_ENDED[bool(verified)])
    warnings = [str(note["message"]) for note in scene.run.notes.values() if note["state"] == SKIPPED]
    return Ended(scene.run, exit_code, time.monotonic() - started, resumed, warnings, wrong)


@contextmanager
def _alone(procedure: Procedure, scene: Scene) -> Iterator[bool]:
    """One procedure at a time. True when the session of another had to be ended for this one."""
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
    """An emergency does, unless another emergency is at work: not one that has been silent for longer than any of its steps takes."""
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
    """The way back leads to before the first of them; a step here finds what belongs to the other."""
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
        raise  # there is nothing to put right here, and nothing more to note
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
    hint = f"put right what it names and call `embedq rollback {run.kind}` again: it goes on at this step; or `embedq rollback undo`"
    return NotWell(f"step {step.name} failed: {trouble}", hint=f"{getattr(trouble, 'hint', '')}; {hint}".lstrip("; "))


def planned_steps(procedure: Procedure, scene: Scene) -> list[dict[str, Any]]:
    """What each step would do now, with real counts and an estimated time; nothing is done."""
    return [{"step": step.name, "will": step.will(scene), "takes_s": round(step.takes_s(scene), 1)} for step in procedure.steps]


def run_to_undo(store: Store) -> Run:
    """The latest procedure that changed something and was not undone. Raises NotFound."""
    latest = store.procedures.latest(20)
    others = {run.options.get("took_over") for run in latest}
    for run in latest:
        if run.kind not in ("undo", "rehearsal") and not run.undone and run.run not in others:
            return run
    raise NotFound(
        "there is no procedure to undo",
        hint='`embedq mode celery --reason "…"` switches by itself; `embedq mode` shows what runs',
    )
