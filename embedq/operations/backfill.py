"""Backfill: existing articles without a vector get tasks, in batches that each commit, and what was queued can be taken back.

Its state is its line in the audit log, written in the same transaction as each batch: whenever it is killed, the next run goes on
behind the last batch, under the same id.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..decide.modes import makes_tasks
from ..decide.prices import cost, named_for
from ..decide.tokens import BYTES_PER_TOKEN
from ..errors import NotFound, NotWell, StoreUnavailable
from ..model import Model, Priority
from ..store import Store

RATE_OF_S = 600.0
PATIENCE_S = 5.0
LOOK_AGAIN_S = 0.05
HELD = "another backfill command is at work: wait for it, or see `embedq backfill status`"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill would take. `seconds`: at the rate of the last ten minutes, None when there was none. `cost`: None without a price."""

    articles: int
    tokens: int
    tenants: int
    model: Model
    cost: float | None
    rate_per_s: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """How it is to be done: batches of so many articles, each committed, at this priority, one tenant's or all."""

    priority: Priority = Priority.LOW
    batch_size: int = 1000
    tenant: str | None = None


@dataclass(slots=True)
class Done:
    """A backfill as its line tells it, whether this run took up an interrupted one, and what became of its tasks."""

    state: dict[str, Any]
    resumed: bool = False
    tasks: dict[str, int] = field(default_factory=dict)


def estimate(store: Store, prices: str, tenant: str | None, after: str = "") -> Estimate:
    model = active(store)
    found = store.backfills.wanted(model.id, tenant, after)
    tokens = -(-found["bytes"] // BYTES_PER_TOKEN)
    price = named_for(prices, model)
    rate = store.overview.settled(RATE_OF_S)["completed"] / RATE_OF_S
    return Estimate(
        found["articles"],
        tokens,
        found["tenants"],
        model,
        None if price is None else cost(tokens, price),
        rate,
        found["articles"] / rate if rate else None,
    )


def active(store: Store) -> Model:
    model = store.models.active()
    if model is None:
        raise StoreUnavailable("no model is active", hint="`embedq db upgrade` registers the one that the settings name")
    return model


def run(store: Store, wanted: Wanted, who: str, why: str, show: Callable[[int], None] = lambda done: None) -> Done:
    """Queue everything. An interrupted backfill is taken up first, as it was begun. `show` is told how many tasks were queued."""
    refuse_where_no_tasks_are_made(store)
    with store.switches.alone("backfill", HELD):
        line, state, resumed = _unfinished(store) or _begun(store, wanted, who, why)
        model = active(store)
        if state["model"] != str(model):
            raise NotWell(
                f"backfill {state['backfill']} was begun for the model {state['model']}; the active one is {model}",
                hint=f"`embedq backfill rollback {state['backfill']}` ends it; then begin anew",
            )
        while store.backfills.step(line, state, model.id):
            show(state["queued"])
    return Done(state, resumed)


def refuse_where_no_tasks_are_made(store: Store) -> None:
    """Raises NotWell where a task would wait for ever, or against what an operator has announced."""
    live = store.status.live()
    if not makes_tasks(live.mode):
        raise NotWell(f"no tasks are made in mode {live.mode}", hint="`embedq mode database --reason …` first")
    if not live.submissions_accepted:
        raise NotWell(
            "submissions are paused for maintenance", hint="`embedq maintenance status`; run it again when it has ended"
        )


def _unfinished(store: Store) -> tuple[int, dict[str, Any], bool] | None:
    row = next((row for row in store.backfills.all() if row["metadata"]["state"] == "running"), None)
    return (row["line"], row["metadata"], True) if row else None


def _begun(store: Store, wanted: Wanted, who: str, why: str) -> tuple[int, dict[str, Any], bool]:
    state: dict[str, Any] = {
        "backfill": f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        "state": "running",
        "queued": 0,
        "after": "",
        "priority": wanted.priority,
        "batch_size": wanted.batch_size,
        "tenant": wanted.tenant,
        "model": str(active(store)),
        "who": who,
        "reason": why,
    }
    return store.backfills.begin(state), state, False


def named(store: Store, backfill: str | None) -> tuple[int, dict[str, Any]]:
    """Its line and state; without a name the latest. Raises NotFound."""
    rows = store.backfills.all()
    row = next((row for row in rows if backfill in (None, row["metadata"]["backfill"])), None)
    if row is None:
        known = ", ".join(row["metadata"]["backfill"] for row in rows[:5]) or "none"
        raise NotFound(f"there is no backfill {backfill or 'yet'}", hint=f"known ones: {known}")
    return row["line"], row["metadata"]


def status(store: Store, backfill: str | None) -> Done:
    _, state = named(store, backfill)
    return Done(state, tasks=store.backfills.tasks(state["backfill"]))


def rollback(store: Store, backfill: str | None, who: str, why: str) -> tuple[Done, int, int]:
    """Cancel exactly what it queued and is not done. Returns it, how many were cancelled, how many others still hold."""
    with store.switches.alone("backfill", HELD):
        line, state = named(store, backfill)
        name, words = state["backfill"], f"backfill {state['backfill']} was rolled back by {who}"
        # First its state: a run that was interrupted is not taken up again, whatever happens to us now.
        state |= {"state": "rolled back", "rolled_back_by": who, "rolled_back_why": why}
        store.backfills.note(line, state)
        cancelled, left = 0, store.backfills.open(name)
        deadline = time.monotonic() + PATIENCE_S
        while left:
            step = store.backfills.cancel(name, words)
            cancelled, left = cancelled + step, store.backfills.open(name)
            if left and time.monotonic() > deadline:
                break
            deadline = time.monotonic() + PATIENCE_S if step else deadline
            time.sleep(LOOK_AGAIN_S if left else 0)
    store.audit.write(
        "backfill-rollback",
        f"{words}: {cancelled} tasks cancelled",
        who=who,
        reason=why,
        name=name,
        counts={"cancelled": cancelled},
    )
    return Done(state, tasks=store.backfills.tasks(name)), cancelled, left
