"""`embedq status` and `embedq wait`."""

from __future__ import annotations

import time

import click

from ..client import Client
from ..errors import NotWell
from .trying import bar
from .voice import Answer, Table, command

LOOK_EVERY_S = 0.25


@command(name="status")
def status() -> Answer:
    """What runs, what waits, and since when.

    Example:  embedq status
    """
    with Client() as client:
        decision, depth, workers = client.decision(), client.store.tasks.depth(), client.store.workers.all()
    data = {"mode": decision.mode, "source": decision.source, "reason": decision.reason, "tasks": depth, "workers": workers}
    said: list[str | Table] = [f"mode {decision.mode} ({decision.source}: {decision.reason})"]
    said.append(Table(("status", "priority", "with the broker", "tasks", "oldest"),
                [(r["status"], r["priority"], r["dispatched"], r["tasks"], r["oldest"]) for r in depth], "Open tasks"))  # fmt: skip
    said.append(Table(("worker", "delivery", "alive", "holds", "mode seen", "steward"),
                [(w["name"], w["delivery"], w["alive"], w["held"], w["mode_seen"], w["steward_since"] is not None) for w in workers], "Workers"))  # fmt: skip
    return Answer(data, said)


@command(name="wait")
@click.option("--timeout", default=3600.0, show_default=True, help="Seconds.")
def wait(timeout: float) -> Answer:
    """Wait until no task is open. Exit code 3 when the time is up.

    Example:  embedq wait --timeout 600
    """
    started = time.monotonic()
    with Client() as client:
        total = left = sum(row["tasks"] for row in client.store.tasks.depth())
        with bar("embedding", total) as show:
            while left:
                if time.monotonic() - started > timeout:
                    raise NotWell(
                        f"{left} tasks are still open after {timeout:g} s", hint="`embedq status` shows what they wait for"
                    )
                time.sleep(LOOK_EVERY_S)
                left = sum(row["tasks"] for row in client.store.tasks.depth())
                show(max(0, total - left))
    return Answer(
        {"done": total, "seconds": time.monotonic() - started}, [f"nothing is open; {total} tasks were done meanwhile"]
    )
