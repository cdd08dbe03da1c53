"""`embedq maintenance …`: announce a window, begin it, end it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import click

from .. import wiring
from ..errors import InputError
from ..settings import from_env
from ..steward import maintenance_window as windows
from ..store import Store
from .voice import Answer, Table, command, who

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LENGTH = re.compile(r"^(\d+(?:\.\d+)?)([smhd])$")

PAUSE = click.option("--pause-submissions", is_flag=True, help="Articles are saved, and get their tasks when it ends.")
FOR = click.option("--for", "length", default="", help="How long: 90s, 30m, 2h, 1d. Without it, until `maintenance end`.")
WEBHOOK = click.option(
    "--webhook", default="", help="An http(s) URL that is told (POST, JSON). It may fail; the command does not."
)


@click.group()
def maintenance() -> None:
    """Announce maintenance, begin it, end it; submissions can be paused meanwhile."""


@contextmanager
def opened() -> Iterator[Store]:
    store = wiring.store(from_env(os.environ))
    try:
        yield store
    finally:
        store.close()


@command(name="schedule", changes=True)
@click.option("--at", "starts", required=True, help="When: 2026-05-01T22:00 (this machine's zone), or +30m from now.")
@FOR
@PAUSE
@WEBHOOK
def schedule(starts: str, length: str, pause_submissions: bool, webhook: str, reason: str, yes: bool) -> Answer:
    """Announce a window. A running worker's steward begins and ends it.

    Example:  embedq maintenance schedule --at +30m --for 1h --pause-submissions --reason "new Redis"
    """
    with opened() as store:
        window = windows.schedule(
            store, moment(starts), span(length), reason, who(), pause_submissions=pause_submissions, webhook=url(webhook)
        )
        return _told(
            window,
            "scheduled",
            f"maintenance is scheduled from {window['starts_at']} to {window['ends_at'] or 'its end by hand'}",
        )


@command(name="start", changes=True)
@FOR
@PAUSE
@WEBHOOK
def start(length: str, pause_submissions: bool, webhook: str, reason: str, yes: bool) -> Answer:
    """Begin a window now.

    Example:  embedq maintenance start --for 30m --reason "new Redis"
    """
    with opened() as store:
        window = windows.start(store, span(length), reason, who(), pause_submissions=pause_submissions, webhook=url(webhook))
        return _told(window, "started", "maintenance runs" + ("; submissions are paused" if pause_submissions else ""))


@command(name="end", changes=True)
def end(reason: str, yes: bool) -> Answer:
    """End the window, or cancel it. Articles saved while submissions were paused get their tasks.

    Example:  embedq maintenance end --reason "done"
    """
    with opened() as store:
        window, made = windows.end(store, reason or "done", who())
        if window is None:
            return Answer({"maintenance": None, "made": 0}, ["no maintenance was running or scheduled"])
        told = _told(window, "ended", f"maintenance is over; {made:,} tasks were made for what was saved meanwhile")
        told.data["made"] = made
        return told


@command(name="status")
def status() -> Answer:
    """Whether maintenance runs or is scheduled, and whether submissions are accepted.

    Example:  embedq maintenance status
    """
    with opened() as store:
        live = store.status.live()
    window = windows.shown(live.maintenance)
    data = {"maintenance": window, "submissions_accepted": live.submissions_accepted}
    rows = [*(window or {"state": "none"}).items(), ("submissions_accepted", live.submissions_accepted)]
    return Answer(data, [Table(("", ""), rows)])


def _told(window: windows.Window, event: str, line: str) -> Answer:
    failed = windows.announce(window, event)
    said: list[str | Table] = [line, *([f"warning: {failed}"] if failed else [])]
    return Answer({"maintenance": windows.shown(window), "webhook_failed": failed}, said)


def span(text: str) -> timedelta | None:
    if not text:
        return None
    found = LENGTH.match(text)
    if not found:
        raise InputError(f"{text!r} is not a duration", hint="say 90s, 30m, 2h or 1d", field="for")
    return timedelta(**{UNITS[found[2]]: float(found[1])})


def moment(text: str) -> datetime:
    if text.startswith("+"):
        return datetime.now(UTC) + (span(text[1:]) or timedelta())
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise InputError(f"{text!r} is not a time", hint="say 2026-05-01T22:00, or +30m from now", field="at") from None


def url(text: str) -> str | None:
    if text and not text.startswith(("http://", "https://")):
        raise InputError("the webhook is not an http(s) URL", hint="it looks like https://host/path", field="webhook")
    return text or None


for each in (schedule, start, end, status):
    maintenance.add_command(each)
