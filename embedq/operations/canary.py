"""Tries one task before many tasks are retried."""

from __future__ import annotations

import time

from ..errors import NotWell
from ..model import OPEN, TaskStatus
from ..store import Store
from ..store.bulk import Act, Picked, Swept

LOOK_EVERY_S = 0.1


def try_one(store: Store, picked: Picked, act: Act, wait_s: float) -> Swept:
    """Retry one task and wait for it. Raises NotWell, with the other tasks unchanged, unless it is embedded within `wait_s` seconds."""
    first = store.operate.sweep(picked, act, limit=1)
    if not first.ids:
        return first
    task, deadline = first.ids[0], time.monotonic() + wait_s
    before = store.operate.state_of(task) or {"attempts": 0}
    while (state := store.operate.state_of(task)) is not None and state["status"] in OPEN and time.monotonic() < deadline:
        if state["attempts"] > before["attempts"]:
            break
        time.sleep(LOOK_EVERY_S)
    if state is None or state["status"] != TaskStatus.COMPLETED:
        found = "is gone" if state is None else f"is {state['status']}: {state['error_message'] or 'not finished in time'}"
        raise NotWell(
            f"the canary, task {task}, {found}; the others were left alone", hint=f"`embedq explain {task}` shows why"
        )
    return first
