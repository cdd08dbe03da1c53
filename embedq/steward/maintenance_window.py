"""Maintenance windows: announced, begun and ended by the steward; they may pause submissions.

While submissions are paused articles are saved and no tasks are made; when the window ends, reconcile makes them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from ..decide.modes import LiveState
from ..errors import EmbedqError, NotWell
from ..store import Store
from ..store.fence import Change
from .calendar import Due, due

log = logging.getLogger(__name__)

WEBHOOK_TIMEOUT_S = 2.0
WEBHOOK_MOST_BYTES = 100_000
STEWARD = "steward"

Window = dict[str, Any]


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
) -> Window:
    """Begin a window now. `run`: the rollback procedure that it belongs to, which also ends it. Raises NotWell if another window is open."""
    window = _window("running", datetime.now(UTC), length, reason, who, pause_submissions, webhook) | {"run": run}

    def decide(live: LiveState) -> Change:
        _refuse_while_one_runs(live)
        return _begun(window, who)

    store.fence.change(who, decide)
    return window


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
        accepted = {"submissions_accepted": True} if _pauses(window) else {}
        return _change(None, f"maintenance {words}: {reason}", who, accepted, of=window)

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


def _begun(window: Window, who: str) -> Change:
    accepted = {"submissions_accepted": False} if window["pause_submissions"] else {}
    return _change(window, f"maintenance has begun: {window['reason']}", who, accepted)


def _pauses(window: Window) -> bool:
    return bool(window["state"] == "running" and window["pause_submissions"])


def _change(
    window: Window | None, message: str, who: str, accepted: Mapping[str, bool] | None = None, of: Window | None = None
) -> Change:
    """A change of the live row. `accepted`: its column submissions_accepted, if that changes. `of`: the window to name in the audit log when it
    is over."""
    values = {"maintenance": window} | dict(accepted or {})
    return Change(values, "maintenance", message, {"who": who, "window": shown(window or of)})


def announce(window: Mapping[str, Any], event: str) -> str | None:
    """Call the webhook, if there is one. Returns the error, if any, and never raises: a failed notification must not fail the command."""
    from ..providers.exchange import Exchange  # slow to import, and `status` imports this module

    url = window.get("webhook")
    if not url:
        return None
    try:
        webhook = Exchange("webhook", "--webhook", url, timeout_s=WEBHOOK_TIMEOUT_S, connect_timeout_s=WEBHOOK_TIMEOUT_S)
        with closing(webhook):
            answer = webhook.post("", {"event": f"maintenance {event}", "maintenance": shown(window)}, WEBHOOK_MOST_BYTES)
    except EmbedqError as failed:
        return _untold(str(failed))
    return None if 200 <= answer.status < 300 else _untold(f"HTTP {answer.status}")


def _untold(why: str) -> str:
    log.warning("the webhook was not told: %s", why)
    return f"the webhook was not told ({why})"


def _refuse_while_one_runs(live: LiveState) -> None:
    if live.maintenance is not None and live.maintenance_runs:
        raise NotWell(f"maintenance is running already: {live.maintenance['reason']}", hint="`embedq maintenance end` ends it")


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
