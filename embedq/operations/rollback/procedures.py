"""The procedures, with their steps in order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...errors import NotFound
from ...model import Mode
from ...store import Store
from . import steps
from .procedure import Did, Procedure, Scene, Step
from .proof import SNAPSHOT, VERIFY

INTO_THE_TABLE = (steps.DRAIN, steps.FREE, steps.HAND_BACK, steps.RELEASE)
WAY_BACK = "`embedq rollback undo --reason …` returns to the mode before"

EMERGENCY = Procedure(
    "emergency",
    "the broker or Celery is broken: fence them off, take all messages into the table, let pollers continue",
    (
        steps.MAINTENANCE_ON,
        steps.fence(lambda _: Mode.DATABASE),
        SNAPSHOT,
        steps.BACK_UP_BROKER,
        steps.BACK_UP_QUEUE,
        *INTO_THE_TABLE,
        VERIFY,
        steps.MAINTENANCE_OFF,
    ),
    back=WAY_BACK,
)


def _planned_to(scene: Scene) -> Mode:
    return Mode(scene.options.get("to", Mode.DATABASE))


PLANNED = Procedure(
    "planned",
    "leave the broker in good order: nothing new goes there, what is in flight finishes, the rest is migrated, then the switch",
    (
        steps.MAINTENANCE_ON,
        steps.HOLD,
        SNAPSHOT,
        steps.BACK_UP_QUEUE,
        steps.LET_FINISH,
        steps.fence(_planned_to, "switch"),
        steps.BACK_UP_BROKER,
        *INTO_THE_TABLE,
        VERIFY,
        steps.MAINTENANCE_OFF,
    ),
    back=WAY_BACK,
)


def _compare(scene: Scene) -> Did:
    """Compare both deliveries, one line per second."""
    watch_s = float(scene.options.get("watch_s", 10.0))
    end = time.monotonic() + watch_s
    while time.monotonic() < end:
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        scene.say("  " + compared_line(scene.store.procedures.deliveries_lately(1.0), 1.0))
    rows = scene.store.procedures.deliveries_lately(max(watch_s, 1.0))
    return Did(compared_line(rows, max(watch_s, 1.0)), {"deliveries": rows, "watch_s": watch_s})


def compared_line(rows: list[dict[str, Any]], seconds: float) -> str:
    """One line: each delivery's rate and errors."""
    told = [
        f"{row['delivery']}: {row['completed'] / seconds:,.1f}/s, {row['failed']} failed, {row['lost_workers']} lost"
        for row in rows
    ]
    return "; ".join(told) or "neither delivery has settled anything"


COMPARE = Step(
    "compare",
    lambda scene: f"watch both deliveries for {scene.options.get('watch_s', 10):g} s",
    _compare,
    takes_s=lambda scene: float(scene.options.get("watch_s", 10.0)),
    essential=False,
)

PARTIAL = Procedure(
    "partial",
    "the broker works but is doubted: pollers take what it does not deliver, and both are compared",
    (SNAPSHOT, steps.fence(lambda _: Mode.HYBRID, "hybrid"), COMPARE, VERIFY),
    back="`embedq rollback undo --reason …` returns to the mode before; `embedq rollback planned` goes further",
)


def _back_to(scene: Scene) -> Mode:
    return Mode(scene.options["to"])


def _end_their_maintenance(scene: Scene) -> Did:
    """End the maintenance window of the procedure that is being undone, and no other."""
    from ...steward import maintenance_window

    window = maintenance_window.current(scene.store)
    if not window or window.get("run") != scene.options["target"]:
        return Did("no maintenance of that procedure runs")
    maintenance_window.end(scene.store, f"undone ({scene.reason})", scene.who)
    return Did("its maintenance is over")


def _mark(scene: Scene) -> Did:
    scene.store.procedures.mark_undone(scene.store.procedures.read(scene.options["target"]))
    return Did(f"procedure {scene.options['target']} is marked as undone")


UNDO = Procedure(
    "undo",
    "return to the mode before the procedure, as safely as the way there",
    (
        SNAPSHOT,
        steps.RELEASE,
        steps.switch_back(_back_to),
        Step("maintenance-off", lambda _: "end the maintenance of the procedure that is undone", _end_their_maintenance),
        VERIFY,
        Step("mark-undone", lambda scene: f"mark procedure {scene.options['target']} as undone", _mark),
    ),
    back="`embedq mode MODE --reason …` switches to any mode",
)

KINDS = {each.kind: each for each in (EMERGENCY, PLANNED, PARTIAL, UNDO)}


def procedure(kind: str) -> Procedure:
    """The procedure of this kind."""
    if kind not in KINDS:
        raise NotFound(f"there is no procedure {kind}", hint=f"there are: {', '.join(KINDS)}")
    return KINDS[kind]


def options_of(kind: str, store: Store, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run records at its begin: the previous mode, and the operator's options."""
    if kind != UNDO.kind:
        return {"mode_before": store.status.live().mode, **given}
    from .procedure import run_to_undo

    target = run_to_undo(store)
    return {
        "mode_before": store.status.live().mode,
        "target": target.run,
        "to": target.options.get("mode_before", Mode.CELERY),
        **given,
    }
