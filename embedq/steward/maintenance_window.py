"""Maintenance windows: announced, begun and ended by the steward; they may pause submissions, or priorities and tenants.

While submissions are paused articles are saved and no tasks are made; when the window ends, reconcile makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..decide.modes import LiveState
from ..errors import NotWell
from ..store import Store
from ..store.control import paused_after, paused_in
from ..store.fence import Change
from .calendar import Due, due
from .webhook import told

STEWARD = "steward"

Window = dict[str, Any]
# Names by part: "priorities", "tenants".
Names = Mapping[str, Sequence[str]]


def shown(window: Mapping[str, Any] | None) -> Window | None:
    """A window without secrets: the webhook's address may hold one."""
    if window is None:
        return None
    return {key: value for key, value in window.items() if key != "webhook"} | {"webhook": bool(window.get("webhook"))}


def current(store: Store) -> Window | None:
    """The window that is announced or running, or None."""
    return _window_in(store.status.live())


def _window_in(live: LiveState) -> Window | None:
    return None if live.maintenance is None else dict(live.maintenance)


def schedule(
    store: Store,
    starts_at: datetime,
    length: timedelta | None,
    reason: str,
    who: str,
    *,
    pause_submissions: bool = False,
    webhook: str | None = None,
    notify_users: bool = False,
) -> Window:
    """Announce a window; the steward begins and ends it. Without a length it lasts until `end()` is called."""
    window = _window("scheduled", starts_at, length, reason, who, pause_submissions, webhook) | {"notify_users": notify_users}

    def decide(live: LiveState) -> Change:
        _refuse_while_one_runs(live)
        return _change(window, f"maintenance is scheduled for {window['starts_at']}: {reason}", who)

    store.fence.change(who, decide)
    return window


def start(
    store: Store,
    length: timedelta | None,
    reason: str,
    who: str,
    *,
    pause_submissions: bool = False,
    webhook: str | None = None,
    run: str | None = None,
    pause: Names | None = None,
) -> Window:
    """Begin a window now. `run`: the rollback procedure that it belongs to, which also ends it. `pause`: priorities and tenants that are paused
    until its end. Raises NotWell if another window is open."""
    window = _window("running", datetime.now(UTC), length, reason, who, pause_submissions, webhook) | {"run": run}

    def decide(live: LiveState) -> Change:
        _refuse_while_one_runs(live)
        if not pause:
            return _begun(window, who)
        _refuse_while_one_is_scheduled(live)
        return _begun(window | {"paused": _not_yet_paused(live, pause)}, who, _with(live, pause))

    return _window_in(store.fence.change(who, decide).after) or window


def resumed(store: Store, reason: str, who: str) -> None:
    """End a window that pauses priorities or tenants when none of them is paused any more."""
    live = store.status.live()
    window = _window_in(live)
    if (
        window is not None
        and _is_of_a_pause(window)
        and not any({*names}.intersection(window["paused"][part]) for part, names in paused_in(live, window["paused"]).items())
    ):
        end(store, reason, who, only=window)


def adopt(store: Store, old_run: str, run: str, who: str) -> bool:
    """Transfer a procedure's window to the procedure that took over from it. Returns whether there was one."""

    def decide(live: LiveState) -> Change | None:
        window = _window_in(live)
        if not window or window.get("run") != old_run:
            return None
        return _change(window | {"run": run}, f"the maintenance of procedure {old_run} is now that of {run}", who)

    done = store.fence.change(who, decide)
    return done.after is not done.before


def end(store: Store, reason: str, who: str, *, only: Window | None = None) -> tuple[Window | None, int]:
    """End the window, or cancel one that has not begun. Returns it, and how many tasks were made for articles written during it. `only`:
    end this window, not another that replaced it."""

    def decide(live: LiveState) -> Change | None:
        window = _window_in(live)
        if window is None or (only is not None and window != only):
            return None
        words = "has ended" if window["state"] == "running" else "was called off"
        return _change(None, f"maintenance {words}: {reason}", who, _ended(live, window), of=window)

    done = store.fence.change(who, decide)
    window = _window_in(done.before)
    if done.after is done.before or window is None:
        return None, 0
    made = store.care.reconcile_if_tasks_are_made() if _pauses(window) else 0
    if made:
        store.audit.write("maintenance", f"{made} tasks were made for what was saved during maintenance", who=who, made=made)
    store.workers.wake()
    return window, made


def keep_calendar(store: Store, now: datetime | None = None) -> Due:
    """Begin or end a window that is due; a chore of the steward. It reads first, because changing the live row blocks all claims for a moment."""
    window = current(store)
    is_due = due(window, now or datetime.now(UTC))
    if window is None or is_due is Due.NOTHING:
        return is_due
    if is_due is Due.BEGIN:
        running = window | {"state": "running"}
        done = store.fence.change(STEWARD, lambda live: _begun(running, STEWARD) if live.maintenance == window else None)
        changed, event = done.after is not done.before, "started"
    else:
        ended, _ = end(store, f"its time is over ({window['reason']})", STEWARD, only=window)
        changed, event = ended is not None, "ended"
    if not changed:
        return Due.NOTHING
    announce(window | {"state": "running"}, event)
    return is_due


def set_submissions(store: Store, accepted: bool, reason: str, who: str) -> int:
    """Pause or resume submissions. While paused, articles are saved without tasks; on resume these tasks are made. Returns how many."""
    words = "go on" if accepted else "are paused"

    def decide(live: LiveState) -> Change:
        was, now = {"submissions_accepted": live.submissions_accepted}, {"submissions_accepted": accepted}
        metadata = {"who": who, "reason": reason, "before": was, "after": now}
        return Change(now, "maintenance", f"submissions {words}: {reason}", metadata)

    store.fence.change(who, decide)
    made = store.care.reconcile_if_tasks_are_made() if accepted else 0
    store.workers.wake()
    return made


def _begun(window: Window, who: str, paused: Mapping[str, Any] | None = None) -> Change:
    accepted = {"submissions_accepted": False} if window["pause_submissions"] else {}
    return _change(window, f"maintenance has begun: {window['reason']}", who, accepted | dict(paused or {}))


def _ended(live: LiveState, window: Window) -> dict[str, Any]:
    """The columns of the live row that change with the end of this window."""
    accepted = {"submissions_accepted": True} if _pauses(window) else {}
    if not _is_of_a_pause(window):
        return accepted
    was = paused_in(live, window["paused"])
    return accepted | {f"paused_{part}": tuple(paused_after(was[part], (), names)) for part, names in window["paused"].items()}


def _pauses(window: Window) -> bool:
    return bool(window["state"] == "running" and window["pause_submissions"])


def _is_of_a_pause(window: Window) -> bool:
    return bool(window["state"] == "running" and window.get("paused"))


def _not_yet_paused(live: LiveState, wanted: Names) -> dict[str, list[str]]:
    """What the window's end resumes: a pause that was there before stays."""
    was = paused_in(live, wanted)
    return {part: [each for each in names if each not in was[part]] for part, names in wanted.items()}


def _with(live: LiveState, wanted: Names) -> dict[str, tuple[str, ...]]:
    was = paused_in(live, wanted)
    return {f"paused_{part}": tuple(paused_after(was[part], names, ())) for part, names in wanted.items()}


def _change(
    window: Window | None, message: str, who: str, others: Mapping[str, Any] | None = None, of: Window | None = None
) -> Change:
    """A change of the live row. `others`: its other columns that change. `of`: the window to name in the audit log when it is over."""
    values = {"maintenance": window} | dict(others or {})
    return Change(values, "maintenance", message, {"who": who, "window": shown(window or of)})


def announce(window: Mapping[str, Any], event: str) -> str | None:
    """Tell the window's webhook, if there is one. Returns the error, if any."""
    return told(window.get("webhook"), {"event": f"maintenance {event}", "maintenance": shown(window)})


def _refuse_while_one_runs(live: LiveState) -> None:
    if live.maintenance is not None and live.maintenance_runs:
        raise NotWell(f"maintenance is running already: {live.maintenance['reason']}", hint="`embedq maintenance end` ends it")


def _refuse_while_one_is_scheduled(live: LiveState) -> None:
    if live.maintenance is not None:
        raise NotWell(
            f"maintenance is scheduled for {live.maintenance['starts_at']}, and there is one window at a time",
            hint="`embedq maintenance end` calls it off; without --for the pause lasts until `embedq resume`",
        )


def _window(
    state: str, starts_at: datetime, length: timedelta | None, reason: str, who: str, pause: bool, webhook: str | None
) -> Window:
    return {
        "state": state,
        "reason": reason,
        "by": who,
        "starts_at": starts_at.isoformat(timespec="seconds"),
        "ends_at": (starts_at + length).isoformat(timespec="seconds") if length else None,
        "pause_submissions": pause,
        "webhook": webhook,
    }
