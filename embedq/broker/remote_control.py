"""Celery's remote-control commands that a worker cannot carry out (the size of a thread pool, for example): the answer gives the reason and the
command to use instead. Celery itself would log a traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.worker.control import Panel, nok

FIXED = (
    "a pool of threads keeps its size while it runs: restart the worker with another --concurrency, or with --pool prefork; "
    "`embedq throttle --concurrency N` holds all workers to N batches at once"
)
# Command -> what the pool needs for it, and the answer without that.
NEEDS = {"pool_grow": ("grow", FIXED), "pool_shrink": ("shrink", FIXED)}
# Commands that Celery refuses unless the worker was started for them.
REFUSED = {
    "autoscale": "this worker was started without autoscaling: restart it with --pool prefork --autoscale MAX,MIN",
    "pool_restart": "this worker's pool cannot be restarted alone: end the worker (TERM) and start it again; what it holds is handed back",
}

Command = Callable[..., Any]


def install() -> None:
    """Replace the commands in Celery's panel; once in a process."""
    for name, (method, why) in NEEDS.items():
        Panel.data[name] = _if_the_pool_can(Panel.data[name], method, why)
    for name, why in REFUSED.items():
        Panel.data[name] = _unless_refused(Panel.data[name], why)


def _if_the_pool_can(usual: Command, method: str, why: str) -> Command:
    @functools.wraps(usual)
    def command(state: Any, **arguments: Any) -> Any:
        return usual(state, **arguments) if hasattr(state.consumer.pool, method) else nok(why)

    return command


def _unless_refused(usual: Command, why: str) -> Command:
    @functools.wraps(usual)
    def command(state: Any, **arguments: Any) -> Any:
        try:
            return usual(state, **arguments)
        except ValueError as refused:
            return nok(f"{refused}: {why}")

    return command
