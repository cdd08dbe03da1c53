"""`embedq stop`, `start`, `pause`, `resume`, `emergency-stop`: what no worker can pass once the command has returned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing

import click

from .. import assemble
from ..model import Priority
from ..settings import from_env
from ..store import Store
from ..store.operate import Act, Picked, Swept
from .voice import FAILED, Answer, command, confirm, who

PRIORITIES = click.option("--priority", "-p", "priorities", multiple=True, type=click.Choice([p.value for p in Priority]))
TENANTS = click.option("--tenant", "-t", "tenants", multiple=True, metavar="TENANT")
IN_FLIGHT = Picked(statuses=("processing",))
EMERGENCY_PATIENCE_S = 1.0
ROUNDS = 3


def opened() -> closing[Store]:
    return closing(assemble.store(from_env(os.environ)))


@command(name="stop", changes=True)
def stop(reason: str, yes: bool) -> Answer:
    """Stop every worker's claims, in any mode. What is in flight settles; `embedq start` goes on.

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
        before, _ = store.operate.set_running(running, who(), reason)
        if running:
            store.operate.wake()
    words = "workers may claim" if running else "no worker can claim; what is in flight settles"
    same = before.get("is_running") == running
    return Answer({"is_running": running, "was_running": before.get("is_running")}, [words + (" (as before)" if same else "")])


@command(name="pause", changes=True)
@PRIORITIES
@TENANTS
def pause(priorities: tuple[str, ...], tenants: tuple[str, ...], reason: str, yes: bool) -> Answer:
    """Pause priorities or tenants; with neither named, all priorities. Their tasks are made, and wait.

    Example:  embedq pause --priority low --tenant acme --reason "their import floods us"
    """
    chosen = priorities or (() if tenants else tuple(Priority))
    return _pause({"priorities": (chosen, ()), "tenants": (tenants, ())}, reason or "paused", "pause")


@command(name="resume", changes=True)
@PRIORITIES
@TENANTS
def resume(priorities: tuple[str, ...], tenants: tuple[str, ...], reason: str, yes: bool) -> Answer:
    """End pauses; with none named, all of them.

    Example:  embedq resume --tenant acme
    """
    with opened() as store:
        live = store.status.live() or {}
    if not priorities and not tenants:
        priorities, tenants = tuple(live.get("paused_priorities", ())), tuple(live.get("paused_tenants", ()))
    return _pause({"priorities": ((), priorities), "tenants": ((), tenants)}, reason or "resumed", "resume")


def _pause(change: dict[str, tuple[Sequence[str], Sequence[str]]], why: str, category: str) -> Answer:
    with opened() as store:
        before, after = store.operate.set_paused(change, who(), why, category)
        store.operate.wake()
    said = [f"paused {part}: {', '.join(names) or 'none'}" for part, names in after.items()]
    return Answer({"paused": after, "before": before}, [*said])


@command(name="emergency-stop", destroys=True)
def emergency_stop(reason: str, yes: bool, dry_run: bool) -> Answer:
    """Stop all claims and hand back every task in flight. What workers still bring is discarded; nobody is charged.

    It does not need the workers' consent: a session that holds a claim or a task's row open is ended.

    Example:  embedq emergency-stop --yes --reason "wrong model is being paid for"
    """
    with opened() as store:
        held = sum(row["tasks"] for row in store.operate.count(IN_FLIGHT))
        if dry_run:
            return Answer({"would_hand_back": held}, [f"would stop all claims and hand back {held} tasks in flight"])
        confirm(f"Stop all claims and discard the results of {held} tasks in flight?", yes=yes)
        _, ended = store.operate.set_running(False, who(), reason or "emergency stop", force=True)
        swept, more_ended = hand_back_all(store, reason)
    counts = {"handed_back": swept.total, "left": swept.left, "sessions_ended": ended + more_ended}
    data = {"is_running": False, "states": dict(swept.states), **counts}
    said = f"stopped; {swept.total} tasks were handed back, {ended + more_ended} hanging sessions ended"
    if swept.left:
        return Answer(data, [said, f"{swept.left} tasks are still locked by other sessions: run it again"], FAILED)
    return Answer(data, [said, "go on with: embedq start --reason …"])


def hand_back_all(store: Store, reason: str) -> tuple[Swept, int]:
    """After the fence is down: until no task is processing, ending sessions that hang on one. Returns how many were ended."""
    act = Act("hand_back", "emergency-stop", who(), reason, {"words": "handed back by an emergency stop"})
    total, ended = Swept(), 0
    for _ in range(ROUNDS):
        swept = store.operate.sweep(IN_FLIGHT, act, patience_s=EMERGENCY_PATIENCE_S)
        total = Swept(total.states + swept.states, total.ids + swept.ids, swept.left)
        if not swept.left:
            break
        ended += store.operate.end_task_holders()
    return total, ended
