"""`embedq stop`, `start`, `pause`, `resume`, `emergency-stop`: they hold for every worker when the command has returned."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import timedelta

import click

from .. import wiring
from ..errors import InputError
from ..model import Priority
from ..operations import pauses
from ..settings import from_env
from ..steward import maintenance_window as windows
from ..steward.hand_over import hand_over
from ..store import Store
from ..store.bulk import Act, Picked
from ..store.control import Pauses
from .maintenance import WEBHOOK, span, url
from .voice import FAILED, Answer, command, confirm, who

PRIORITIES = click.option("--priority", "-p", "priorities", multiple=True, type=click.Choice([p.value for p in Priority]))
FOR = click.option("--for", "length", default="", help="How long: 90s, 30m, 2h, 1d. Without it, until `embedq resume`.")
TENANTS = click.option("--tenant", "-t", "tenants", multiple=True, metavar="TENANT")
IN_FLIGHT = Picked(statuses=("processing",))


def opened() -> closing[Store]:
    return closing(wiring.store(from_env(os.environ)))


@command(name="stop", changes=True)
def stop(reason: str, yes: bool) -> Answer:
    """Stop every worker's claims, in any mode. Tasks in flight settle; `embedq start` allows claims again.

    Example:  embedq stop --reason "the provider is being replaced"
    """
    return _run(False, reason)


@command(name="start", changes=True)
def start(reason: str, yes: bool) -> Answer:
    """Let workers claim again.

    Example:  embedq start --reason "the provider is back"
    """
    return _run(True, reason)


def _run(running: bool, reason: str) -> Answer:
    with opened() as store:
        before = store.status.set_running(running, reason, who()).before
        if running:
            store.workers.wake()
    words = "workers may claim" if running else "no worker can claim; what is in flight settles"
    same = before.is_running == running
    return Answer({"is_running": running, "was_running": before.is_running}, [words + (" (as before)" if same else "")])


@command(name="pause", changes=True)
@PRIORITIES
@TENANTS
@FOR
@WEBHOOK
def pause(priorities: tuple[str, ...], tenants: tuple[str, ...], length: str, webhook: str, reason: str, yes: bool) -> Answer:
    """Pause priorities or tenants; with neither named, all priorities. Their tasks are made, and wait.

    With --for it is a maintenance window: a running worker ends the pause by itself, `embedq resume` ends it earlier.

    Example:  embedq pause --priority low --for 30m --reason "their import floods us"
    """
    chosen = priorities or (() if tenants else tuple(Priority))
    if length:
        return _pause_for(span(length), {"priorities": chosen, "tenants": tenants}, url(webhook), reason or "paused")
    if webhook:
        raise InputError("--webhook needs --for", hint="only a pause that ends by itself is told", field="webhook")
    return _pause({"priorities": (chosen, ()), "tenants": (tenants, ())}, reason or "paused", "pause")


@command(name="resume", changes=True)
@PRIORITIES
@TENANTS
def resume(priorities: tuple[str, ...], tenants: tuple[str, ...], reason: str, yes: bool) -> Answer:
    """End pauses; with none named, all of them.

    Example:  embedq resume --tenant acme
    """
    every = not priorities and not tenants
    change: Pauses = {"priorities": ((), None if every else priorities), "tenants": ((), None if every else tenants)}
    return _pause(change, reason or "resumed", "resume")


def _pause_for(length: timedelta | None, names: windows.Names, webhook: str | None, why: str) -> Answer:
    with opened() as store:
        window = windows.start(store, length, why, who(), pause=names, webhook=webhook)
    failed = windows.announce(window, "started")
    paused = [f"paused {part}: {', '.join(of)}" for part, of in names.items() if of]
    said = [*paused, f"until {window['ends_at']}, or `embedq resume`", *([f"warning: {failed}"] if failed else [])]
    return Answer({"paused": names, "maintenance": windows.shown(window), "webhook_failed": failed}, [*said])


def _pause(change: Pauses, why: str, category: str) -> Answer:
    with opened() as store:
        before, after = pauses.change(store, change, why, who(), category)
    said = [f"paused {part}: {', '.join(names) or 'none'}" for part, names in after.items()]
    return Answer({"paused": after, "before": before}, [*said])


@command(name="emergency-stop", destroys=True)
def emergency_stop(reason: str, yes: bool, dry_run: bool) -> Answer:
    """Stop all claims and hand back every task in flight. Late results are discarded; no attempt is charged.

    It works without the workers: a session of theirs that hangs while it holds the fence or a task is terminated. A transaction of the
    application's is not: a task whose article it writes is taken from its worker, and given back when it ends.

    Example:  embedq emergency-stop --yes --reason "wrong model is being paid for"
    """
    with opened() as store:
        held = sum(row["tasks"] for row in store.operate.count(IN_FLIGHT))
        if dry_run:
            return Answer({"would_hand_back": held}, [f"would stop all claims and hand back {held} tasks in flight"])
        confirm(f"Stop all claims and discard the results of {held} tasks in flight?", yes=yes)
        stopped = store.status.set_running(False, reason or "emergency stop", who())
        act = Act("hand_back", "emergency-stop", who(), reason, {"words": "handed back by an emergency stop"})
        done = hand_over(store, IN_FLIGHT, act)
    ended = len(stopped.ended) + done.ended
    counts = {"handed_back": done.handed, "taken": done.taken, "left": done.left, "sessions_ended": ended}
    data = {"is_running": False, "states": dict(done.swept.states), **counts, "warnings": done.warnings()}
    said = [f"stopped; {done.handed} tasks were handed back, {ended} hanging sessions ended", *done.warnings()]
    if done.left:
        return Answer(data, [*said, "run it again when that transaction has ended"], FAILED)
    return Answer(data, [*said, "go on with: embedq start --reason …"])
