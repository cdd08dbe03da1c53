"""Switching the live mode under load. The fence is the change of the row itself; the rest makes the new delivery begin at once.

When `switch` is past the fence, no worker of a delivery that is now off can claim (SPEC G5). What such workers hold
settles, or is handed over; what the broker was trusted with goes back to the table; what was written while no tasks
were made gets them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .decide.switching import begins_making_tasks, deliveries, dispatches, switched_off
from .model import Delivery, Mode
from .store import Store

LOOK_EVERY_S = 0.05

Progress = Callable[[str], None]


def silent(_: str) -> None:
    pass


@dataclass(slots=True)
class Switched:
    """What a switch did, in numbers. `fenced_s`: from the call until no worker of an old delivery could claim."""

    before: Mode
    after: Mode
    fenced_s: float = 0.0
    freed: int = 0
    made: int = 0
    in_flight: int = 0
    settled_meanwhile: int = 0
    handed_over: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def would_switch(store: Store, after: Mode) -> dict[str, object]:
    """What a switch would do, with real counts; nothing is done."""
    before, counts = live_mode(store), store.switches.counts()
    off = switched_off(before, after)
    return {
        "before": before,
        "after": after,
        "switched_off": sorted(off),
        "tasks_freed": 0 if dispatches(after) else counts["with_broker"],
        "tasks_in_flight": sum(counts[f"held_by_{delivery}"] for delivery in off),
        "stale_without_task": _stale(store) if begins_making_tasks(before, after) else 0,
        "warnings": warnings(store, after),
    }


def _stale(store: Store) -> int:
    found = store.care.reconcile(dry_run=True)
    return found.get("none", 0) + found.get("completed", 0)


def switch(
    store: Store,
    after: Mode,
    reason: str,
    who: str,
    *,
    wait_s: float | None = None,
    say: Progress = silent,
    category: str = "mode",
) -> Switched:
    """Switch to `after`. With `wait_s`, wait that long for what the old delivery holds, and then hand it over."""
    started = time.monotonic()
    done = Switched(live_mode(store), after)
    store.status.set_mode(after, reason, who)
    done.fenced_s = time.monotonic() - started
    _audit(store, done, reason, who, category)
    store.switches.wake()
    if not dispatches(after):
        done.freed = free_all(store)
    if begins_making_tasks(done.before, after):
        done.made = store.care.reconcile()["made"]
    store.switches.wake()
    off = switched_off(done.before, after)
    done.in_flight = store.switches.in_flight(off)
    if wait_s is not None and off:
        settle_or_hand_over(store, done, off, wait_s, say)
    done.warnings = warnings(store, after)
    done.seconds = time.monotonic() - started
    return done


def live_mode(store: Store) -> Mode:
    live = store.status.live()
    return Mode(live["mode"]) if live else Mode.CELERY


def _audit(store: Store, done: Switched, reason: str, who: str, category: str) -> None:
    store.audit.write(
        category, f"mode {done.before} -> {done.after}: {reason}", who=who, before=done.before, after=done.after, reason=reason
    )


def free_all(store: Store) -> int:
    """Everything the broker was trusted with is the table's again; pollers hear of it from the first step on."""
    freed = 0
    for step in store.switches.free_all():
        freed += step
        store.switches.wake()
    return freed


def settle_or_hand_over(store: Store, done: Switched, off: frozenset[Delivery], wait_s: float, say: Progress) -> None:
    """Wait for the old delivery's tasks in flight; after `wait_s` take them out of its hands."""
    deadline, left = time.monotonic() + wait_s, store.switches.in_flight(off)
    first = max(left, done.in_flight)
    while left and time.monotonic() < deadline:
        say(f"{left} of {first} tasks are still with the old delivery")
        time.sleep(LOOK_EVERY_S)
        left = store.switches.in_flight(off)
    if left:
        done.handed_over = store.switches.hand_over(off, f"mode {done.after}")
        store.audit.write(
            "mode", f"{done.handed_over} tasks were handed over by the old delivery", level="warning", tasks=done.handed_over
        )
        store.switches.wake()
    done.settled_meanwhile = max(0, first - done.handed_over)


def warnings(store: Store, after: Mode) -> list[str]:
    """What an operator should know about the mode they are switching to."""
    alive = {Delivery(w["delivery"]) for w in store.workers.all() if w["alive"] and w["delivery"] in tuple(Delivery)}
    wanted = deliveries(after)
    found = []
    if wanted and not wanted & alive:
        names = {Delivery.CELERY: "a Celery worker (`celery -A embedq worker`)", Delivery.POLLER: "a poller (`embedq poller`)"}
        found.append(f"nobody is there to do the work: start {' or '.join(names[each] for each in sorted(wanted))}")
    live = store.status.live() or {}
    if not live.get("is_running", True):
        found.append("the queue is stopped (is_running = false): `embedq start`")
    return found
