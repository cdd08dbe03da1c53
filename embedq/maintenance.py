"""Maintenance (R18): a window that is announced, begins and ends by itself, and may pause submissions meanwhile.

While submissions are paused articles are saved and no tasks are made; when the window ends, reconcile makes them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from .decide.calendar import Due, due
from .errors import NotWell
from .store import Store

log = logging.getLogger(__name__)

WEBHOOK_TIMEOUT_S = 2.0
STEWARD = "steward"

Window = dict[str, Any]


def shown(window: Mapping[str, Any] | None) -> Window | None:
    """A window as it may be shown: the webhook's address may hold a secret."""
    if window is None:
        return None
    return {key: value for key, value in window.items() if key != "webhook"} | {"webhook": bool(window.get("webhook"))}


def current(store: Store) -> Window | None:
    live = store.status.live() or {}
    return live.get("maintenance")


def schedule(
    store: Store, starts_at: datetime, length: timedelta | None, reason: str, who: str, *,
    pause_submissions: bool = False, webhook: str | None = None,
) -> Window:  # fmt: skip
    """Announce a window; the steward begins and ends it. Without a length it ends when somebody ends it."""
    _refuse_while_one_runs(store)
    window = _window("scheduled", starts_at, length, reason, who, pause_submissions, webhook)
    store.status.set_maintenance(window, who, accepted=None)
    store.audit.write(
        "maintenance", f"maintenance is scheduled for {window['starts_at']}: {reason}", who=who, window=shown(window)
    )
    return window


def start(
    store: Store, length: timedelta | None, reason: str, who: str, *,
    pause_submissions: bool = False, webhook: str | None = None, run: str | None = None,
) -> Window:  # fmt: skip
    """Begin one now. `run`: the rollback procedure that it belongs to, and that ends it."""
    _refuse_while_one_runs(store)
    window = _window("running", datetime.now(UTC), length, reason, who, pause_submissions, webhook) | {"run": run}
    store.status.set_maintenance(window, who, accepted=False if pause_submissions else None)
    store.audit.write("maintenance", f"maintenance has begun: {reason}", who=who, window=shown(window))
    return window


def end(store: Store, reason: str, who: str) -> tuple[Window | None, int]:
    """End the window, or call it off; returns it, and how many tasks were made for what was written meanwhile."""
    window = current(store)
    if window is None:
        return None, 0
    paused = window["state"] == "running" and window["pause_submissions"]
    store.status.set_maintenance(None, who, accepted=True if paused else None)
    made = store.care.reconcile_if_tasks_are_made() if paused else 0
    words = "has ended" if window["state"] == "running" else "was called off"
    store.audit.write("maintenance", f"maintenance {words}: {reason}", who=who, window=shown(window), made=made)
    store.switches.wake()
    return window, made


def keep_calendar(store: Store, now: datetime | None = None) -> Due:
    """Begin or end what is due. The steward's chore: it asks first, because changing the row is a fence for every claim."""
    window = current(store)
    is_due = due(window, now or datetime.now(UTC))
    if window is None or is_due is Due.NOTHING:
        return is_due
    if is_due is Due.BEGIN:
        running = window | {"state": "running"}
        store.status.set_maintenance(running, STEWARD, accepted=False if window["pause_submissions"] else None)
        store.audit.write("maintenance", f"maintenance has begun: {window['reason']}", who=STEWARD, window=shown(running))
        announce(running, "started")
    else:
        end(store, f"its time is over ({window['reason']})", STEWARD)
        announce(window, "ended")
    return is_due


def announce(window: Mapping[str, Any], event: str) -> str | None:
    """Tell the webhook, if there is one. Returns what went wrong, and never raises: telling is not worth a failed command."""
    from urllib.request import Request, urlopen  # slow to import, and `status` comes this way

    url = window.get("webhook")
    if not url:
        return None
    body = json.dumps({"event": f"maintenance {event}", "maintenance": shown(window)}).encode()
    try:
        with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=WEBHOOK_TIMEOUT_S) as answer:
            answer.read(1)
    except (OSError, ValueError) as failed:
        log.warning("the webhook was not told: %s", type(failed).__name__)
        return f"the webhook was not told ({type(failed).__name__})"
    return None


def _refuse_while_one_runs(store: Store) -> None:
    window = current(store)
    if window is not None and window["state"] == "running":
        raise NotWell(f"maintenance is running already: {window['reason']}", hint="`embedq maintenance end` ends it")


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
