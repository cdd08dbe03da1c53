"""Switches the live mode under load. The change of the live row is the fence; the other steps make the new delivery begin at once.

After the fence, no worker of a delivery that is now off can claim (G5). Tasks that such workers hold settle or are handed over; tasks that
were with the broker are freed; articles that were written while no tasks were made get tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from ..decide.modes import deliveries, dispatches
from ..decide.switching import begins_making_tasks, switched_off
from ..model import Delivery, Mode
from ..steward.hand_over import HandedOver, free_all, hand_over
from ..store import Store
from ..store.bulk import Act, Picked
from ..store.fence import Changed, told

LOOK_EVERY_S = 0.05

Progress = Callable[[str], None]


def silent(_: str) -> None:
    pass


@dataclass(slots=True)
class Switched:
    """The result of a switch. `fenced_s`: seconds from the call until no worker of an old delivery could claim. Of the tasks in flight,
    `taken` were revoked but are not pending yet, and `left` are locked, both because transactions write their articles."""

    before: Mode
    after: Mode
    fenced_s: float = 0.0
    freed: int = 0
    made: int = 0
    in_flight: int = 0
    settled_meanwhile: int = 0
    handed_over: int = 0
    taken: int = 0
    left: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def would_switch(store: Store, after: Mode) -> dict[str, object]:
    """What a switch would do, with current counts; changes nothing."""
    before, counts = store.status.live().mode, store.switches.counts()
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
    """Switch to `after`. `wait_s`: wait that long for tasks that the old delivery holds, then hand them over.

    Raises NotWell, with nothing changed, if a rollback procedure is running or the fence stays locked.
    """
    started = time.monotonic()
    changed = fence(store, after, reason, who, category=category, alone=True)
    done = Switched(changed.before.mode, after, fenced_s=time.monotonic() - started)
    if not dispatches(after):
        done.freed = free_all(store)
    if begins_making_tasks(done.before, after):
        done.made = store.care.reconcile()["made"]
    store.workers.wake()
    off = switched_off(done.before, after)
    done.in_flight = store.switches.in_flight(off)
    if wait_s is not None and off:
        _wait_for_the_old(store, done, off, wait_s, who, say)
    done.warnings += [*_of_the_fence(changed), *warnings(store, after)]
    done.seconds = time.monotonic() - started
    return done


def _wait_for_the_old(store: Store, done: Switched, off: frozenset[Delivery], wait_s: float, who: str, say: Progress) -> None:
    """Hand over only if the mode has not been switched again, because tasks in flight may then belong to an active delivery."""
    flight = settle_or_hand_over(
        store, off, wait_s, f"mode {done.after}", who, say=say, may=lambda: store.status.live().mode is done.after
    )
    if flight.left:
        now = store.status.live().mode
        done.warnings.append(
            f"nothing was handed over: the mode is {now} by now, another command or a hand has switched it again"
        )
    handed = flight.handed
    done.handed_over, done.taken, done.left = handed.handed, handed.taken, handed.left
    done.warnings += handed.warnings()
    done.settled_meanwhile = flight.settled + max(0, done.in_flight - flight.first)


def _of_the_fence(changed: Changed) -> list[str]:
    """Warnings of the fence: the live row was missing; hanging sessions of embedq were ended."""
    anew = ["the live row had been deleted, so that no worker could claim; it was made again, with the queue running"]
    ended = [f"a session of embedq's own that hung at the fence was ended: {told(each)}" for each in changed.ended]
    return [*(anew if changed.anew else []), *ended]


def fence(store: Store, after: Mode, reason: str, who: str, *, category: str = "mode", alone: bool = False) -> Changed:
    """Change the live row. When it returns, no worker of a delivery that is off can claim, and all workers have been woken."""
    changed = store.status.set_mode(after, reason, who, category=category, alone=alone)
    store.workers.wake()
    return changed


@dataclass(slots=True)
class Flight:
    """What happened to the `first` tasks in flight: `handed` over, or `left` unchanged because `may` refused; the others settled."""

    first: int
    handed: HandedOver = field(default_factory=HandedOver)
    left: int = 0

    @property
    def settled(self) -> int:
        return max(0, self.first - self.left - self.handed.handed - self.handed.taken - self.handed.left)


def settle_or_hand_over(
    store: Store,
    off: Collection[Delivery],
    wait_s: float,
    why: str,
    who: str,
    *,
    say: Progress = silent,
    may: Callable[[], bool] = lambda: True,
) -> Flight:
    """Wait up to `wait_s` for tasks that workers of these deliveries hold; then revoke them, if `may()` still allows it."""
    deadline, left = time.monotonic() + wait_s, store.switches.in_flight(off)
    flight = Flight(left)
    while left and time.monotonic() < deadline:
        say(f"{left} of {flight.first} tasks are still with the old delivery")
        time.sleep(LOOK_EVERY_S)
        left = store.switches.in_flight(off)
    if left and not may():
        flight.left = left
    elif left:
        flight.handed = hand_over_of(store, off, why, who)
        store.workers.wake()
    return flight


def hand_over_of(store: Store, off: Iterable[Delivery], why: str, who: str) -> HandedOver:
    """Revoke every task that workers of these deliveries hold."""
    picked = Picked(("processing",), deliveries=sorted(off))
    return hand_over(store, picked, Act("hand_back", "hand over", who, why, {"words": f"handed over: {why}"}))


def warnings(store: Store, after: Mode) -> list[str]:
    """Warnings about the new mode for the operator."""
    alive = {Delivery(w["delivery"]) for w in store.workers.all() if w["alive"] and w["delivery"] in tuple(Delivery)}
    wanted = deliveries(after)
    found = []
    if wanted and not wanted & alive:
        names = {Delivery.CELERY: "a Celery worker (`celery -A embedq worker`)", Delivery.POLLER: "a poller (`embedq poller`)"}
        found.append(f"no worker can do the work: start {' or '.join(names[each] for each in sorted(wanted))}")
    live = store.status.live()
    if not live.is_running:
        found.append(
            live.reason if live.missing and live.reason else "the queue is stopped (is_running = false): `embedq start`"
        )
    return found
