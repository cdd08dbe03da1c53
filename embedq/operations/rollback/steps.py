"""The steps of procedures. Each is idempotent: it works from the current state, not from remembered values."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from ...decide.arguments import path_in_text
from ...decide.modes import deliveries, dispatches
from ...errors import BrokerUnavailable
from ...local.files import written
from ...model import OPEN, Delivery, Mode
from ...steward import maintenance_window
from ...steward.hand_over import free_all
from ..mode_switch import fence as mode_fence
from ..mode_switch import settle_or_hand_over, switch, warnings
from . import drain as draining
from .procedure import Did, Scene, Step

# Measured on two shared cores; used only for the plan's estimate.
FREED_A_S, DRAINED_A_S, COPIED_A_S = 20_000, 15_000, 50_000
DRAIN_LIMIT_S, COPY_LIMIT_S, SETTLE_S = 30.0, 15.0, 3.0
LOOK_EVERY_S, SAY_EVERY_S = 0.05, 1.0


def _counts(scene: Scene) -> dict[str, int]:
    return scene.store.switches.counts()


def _window_is_ours(scene: Scene) -> bool:
    window = maintenance_window.current(scene.store)
    return bool(window and window.get("run") == scene.name)


def _maintenance_on(scene: Scene) -> Did:
    other = scene.options.get("took_over")
    if other is not None and maintenance_window.adopt(scene.store, str(other), scene.name, scene.who):
        return Did("maintenance is on already, and ends with this procedure")
    window = maintenance_window.current(scene.store)
    if window is not None and window["state"] == "running":
        return Did("maintenance runs already" if not _window_is_ours(scene) else "maintenance is on")
    maintenance_window.start(scene.store, None, scene.reason, scene.who, run=scene.name)
    return Did("maintenance is on: status shows it, articles are still saved")


def _maintenance_off(scene: Scene) -> Did:
    if not _window_is_ours(scene):
        return Did(
            "the maintenance that runs is not ours, and stays"
            if maintenance_window.current(scene.store)
            else "no maintenance runs"
        )
    maintenance_window.end(scene.store, f"the procedure has ended ({scene.reason})", scene.who)
    return Did("maintenance is over")


MAINTENANCE_ON = Step("maintenance-on", lambda _: "announce that maintenance runs", _maintenance_on)
MAINTENANCE_OFF = Step("maintenance-off", lambda _: "announce that it is over", _maintenance_off)


def fence(to: Callable[[Scene], Mode], name: str = "fence") -> Step:
    """Switch the mode: afterwards no worker of a delivery that is off can claim."""

    def do(scene: Scene) -> Did:
        live, after = scene.store.status.live(), to(scene)
        started = time.monotonic()
        if live.missing or live.mode is not after:
            mode_fence(scene.store, after, scene.reason, scene.who)
        scene.fenced_at = time.monotonic()
        return Did(
            f"the mode is {after}; claims of other deliveries are impossible now", {"fence_s": time.monotonic() - started}
        )

    def check(scene: Scene) -> str | None:
        return _mode_is(scene, to(scene))

    return Step(name, lambda scene: f"mode {scene.store.status.live().mode} -> {to(scene)}, which is the fence", do, check)


def _mode_is(scene: Scene, wanted: Mode) -> str | None:
    live = scene.store.status.live()
    if live.missing:
        return f"the live row is gone, the mode is not {wanted}: it was deleted meanwhile"
    by = f"{live.changed_by} has switched it at {live.changed_at:%H:%M:%S %Z} ({live.reason})"
    return None if live.mode is wanted else f"the mode is {live.mode}, not {wanted}: {by}"


def _back_up_broker(scene: Scene) -> Did:
    path = scene.folder / f"{scene.name}-broker.jsonl"
    written = draining.back_up(scene.broker, path, limit_s=COPY_LIMIT_S)
    return Did(f"{written:,} messages are in {path_in_text(path)}", {"messages": written, "file": path_in_text(path)})


def _back_up_queue(scene: Scene) -> Did:
    scene.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = scene.folder / f"{scene.name}-tasks.jsonl"
    tasks = 0
    with written(path, private=True) as file:
        for line in scene.store.transfer.export(OPEN):
            file.write(line + "\n")
            tasks += 1
    return Did(
        f"{tasks:,} open tasks are in {path_in_text(path)}, for `embedq import`", {"tasks": tasks, "file": path_in_text(path)}
    )


def _messages(scene: Scene) -> int | None:
    """The number of messages; None if the broker does not answer."""
    try:
        return sum(queue.waiting + queue.unacknowledged for queue in scene.broker.look().values())
    except BrokerUnavailable:
        return None


def _told_messages(scene: Scene) -> str:
    found = _messages(scene)
    return "the messages of a broker that does not answer" if found is None else f"{found:,} messages"


BACK_UP_BROKER = Step(
    "back-up-broker",
    lambda scene: f"copy {_told_messages(scene)} into {scene.folder}",
    _back_up_broker,
    takes_s=lambda scene: (_messages(scene) or 0) / COPIED_A_S,
    essential=False,
)
BACK_UP_QUEUE = Step(
    "back-up-queue",
    lambda scene: f"copy {sum(_counts(scene).values()):,} open tasks into {scene.folder}",
    _back_up_queue,
    takes_s=lambda scene: sum(_counts(scene).values()) / COPIED_A_S,
    essential=False,
)


def _quiet_s(scene: Scene) -> float | None:
    """Seconds for which the broker must be quiet; None while messages are still published."""
    return None if draining.is_refilled(scene.store) else float(scene.options.get("quiet_s", draining.QUIET_S))


def _drain(scene: Scene) -> Did:
    done = draining.drain(scene.store, scene.broker, limit_s=DRAIN_LIMIT_S, quiet_s=_quiet_s(scene), fenced_at=scene.fenced_at)
    return Did(
        f"{done.messages:,} messages taken, {done.freed:,} tasks freed, {done.made} made, {done.rejected} kept for review",
        asdict(done),
    )


DRAIN = Step(
    "drain",
    lambda scene: f"take {_told_messages(scene)} out of the broker; without one this is skipped: the fence makes them harmless",
    _drain,
    takes_s=lambda scene: (_messages(scene) or 0) / DRAINED_A_S + (_quiet_s(scene) or 0.0),
    essential=False,
)


def _free(scene: Scene) -> Did:
    freed = free_all(scene.store)
    said = [f"{freed:,} tasks are free again", *warnings(scene.store, scene.store.status.live().mode)]
    return Did("; ".join(said), {"freed": freed})


def _all_free(scene: Scene) -> str | None:
    """Free all dispatched tasks, retried for rows that a writer has locked."""
    deadline = time.monotonic() + SETTLE_S
    while (left := _not_free(scene)) and time.monotonic() < deadline:
        free_all(scene.store)
        time.sleep(LOOK_EVERY_S)
    return f"{left} tasks are held by writers; the steward frees them" if left else None


def _not_free(scene: Scene) -> int:
    """Number of tasks that are still dispatched; 0 in a mode that dispatches."""
    left = int(_counts(scene)["with_broker"])
    return 0 if left and dispatches(scene.store.status.live().mode) else left


FREE = Step(
    "free-tasks",
    lambda scene: f"give {_counts(scene)['with_broker']:,} tasks that the broker was trusted with back to the table",
    _free,
    _all_free,
    takes_s=lambda scene: _counts(scene)["with_broker"] / FREED_A_S,
    essential=False,
)


def _off(scene: Scene) -> list[Delivery]:
    return sorted(set(Delivery) - deliveries(scene.store.status.live().mode))


def _hand_back(scene: Scene) -> Did:
    grace_s = float(scene.options.get("grace_s", SETTLE_S))
    flight = settle_or_hand_over(scene.store, _off(scene), grace_s, scene.reason, scene.who)
    done = flight.handed
    said = f"of {flight.first:,} tasks in flight {flight.settled:,} settled and {done.handed:,} were handed back"
    waiting = done.warnings()
    return Did(
        "; ".join([said, *waiting]),
        {"handed_back": done.handed, "taken": done.taken, "locked": done.left},
        skipped=bool(waiting),
    )


def _none_in_flight(scene: Scene) -> str | None:
    """Check that no task is in flight, without those that a transaction has locked: they settle or are handed over when it ends."""
    left = scene.store.switches.in_flight(_off(scene), unlocked=True)
    return f"{left} tasks are still with a delivery that is off" if left else None


HAND_BACK = Step(
    "hand-back",
    lambda scene: f"let {_in_flight(scene):,} tasks in flight settle, then take them from workers that do not",
    _hand_back,
    _none_in_flight,
    takes_s=lambda scene: float(scene.options.get("grace_s", SETTLE_S)) if _in_flight(scene) else 0.1,
)


def _in_flight(scene: Scene) -> int:
    return _counts(scene)["held_by_celery"]


def _hold(held: bool) -> Callable[[Scene], Did]:
    def do(scene: Scene) -> Did:
        scene.store.status.set_dispatch_held(held, scene.who, scene.reason)
        return Did("nothing new goes to the broker" if held else "dispatch is no longer held")

    return do


def _is_held(wanted: bool) -> Callable[[Scene], str | None]:
    def check(scene: Scene) -> str | None:
        held = scene.store.status.live().dispatch_held
        return None if held is wanted else "dispatch was held or released by another command meanwhile"

    return check


HOLD = Step(
    "hold-dispatch", lambda scene: f"keep {_counts(scene)['free']:,} free tasks, and new ones, in the table", _hold(True)
)
RELEASE = Step("release-dispatch", lambda _: "let dispatch follow the mode again", _hold(False), _is_held(False))


def _let_finish(scene: Scene) -> Did:
    """Let workers finish the tasks that they hold; it ends, because nothing new is dispatched."""
    wait_s, started, said_at = _wait_s(scene), time.monotonic(), 0.0
    while (
        (left := _with_celery(scene))
        and (now := time.monotonic()) - started < wait_s
        and scene.store.workers.any_alive("celery")
    ):
        if now - said_at > SAY_EVERY_S:
            said_at = now
            if scene.run is not None:
                scene.store.procedures.refuse_if_taken_over(scene.run)
            scene.say(f"  {left:,} tasks are still with the broker or its workers; {wait_s - (now - started):.0f} s left")
        time.sleep(LOOK_EVERY_S)
    return Did(f"{left:,} tasks did not finish and are migrated" if left else "everything in flight finished", {"left": left})


def _wait_s(scene: Scene) -> float:
    return float(scene.options.get("wait_s", 120.0))


def _with_celery(scene: Scene) -> int:
    counts = _counts(scene)
    return counts["with_broker"] + counts["held_by_celery"]


LET_FINISH = Step(
    "let-finish",
    lambda scene: f"wait for {_with_celery(scene):,} tasks with the broker and its workers, {_wait_s(scene):g} s at most",
    _let_finish,
    takes_s=lambda scene: _wait_s(scene) if _with_celery(scene) else 0.1,
)


def switch_back(to: Callable[[Scene], Mode]) -> Step:
    """As `embedq mode`: fence, free tasks that must not be with the broker, reconcile."""

    def do(scene: Scene) -> Did:
        done = switch(scene.store, to(scene), scene.reason, scene.who)
        return Did("; ".join([f"mode {done.before} -> {done.after}", *done.warnings]), {"freed": done.freed, "made": done.made})

    def check(scene: Scene) -> str | None:
        return _mode_is(scene, to(scene))

    return Step(
        "switch-back", lambda scene: f"mode {scene.store.status.live().mode} -> {to(scene)}", do, check, takes_s=lambda _: 1.0
    )
