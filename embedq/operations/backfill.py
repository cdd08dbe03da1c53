"""Backfill: makes tasks for existing articles without a vector, in batches that each commit; the queued tasks can be cancelled again.

Its state is an entry of the audit log, updated in each batch's transaction: after a crash, the next run continues behind the last batch,
under the same id.
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
    """Size and estimated cost of a backfill. `seconds`: at the rate of the last ten minutes, None if nothing was embedded. `cost`: None
    without a price."""

    articles: int
    tokens: int
    tenants: int
    model: Model
    cost: float | None
    rate_per_s: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Parameters of a backfill: articles per committed batch, priority, one tenant or all."""

    priority: Priority = Priority.LOW
    batch_size: int = 1000
    tenant: str | None = None


@dataclass(slots=True)
class Done:
    """A backfill as the audit log has it, whether this run resumed an interrupted one, and the states of its tasks."""

    state: dict[str, Any]
    resumed: bool = False
    tasks: dict[str, int] = field(default_factory=dict)


def estimate(store: Store, prices: str, tenant: str | None, after: str = "") -> Estimate:
    """Count the articles, and estimate duration and cost."""
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
    """Queue everything. An interrupted backfill is resumed first, with its original parameters. `show(queued)` is called after each batch."""
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
    """Raises NotWell if the mode makes no tasks, or if submissions are paused for maintenance."""
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
    """The backfill of this id, or the latest. Raises NotFound."""
    rows = store.backfills.all()
    row = next((row for row in rows if backfill in (None, row["metadata"]["backfill"])), None)
    if row is None:
        known = ", ".join(row["metadata"]["backfill"] for row in rows[:5]) or "none"
        raise NotFound(f"there is no backfill {backfill or 'yet'}", hint=f"known ones: {known}")
    return row["line"], row["metadata"]


def status(store: Store, backfill: str | None) -> Done:
    """The backfill of this id, or the latest, with the states of its tasks. Raises NotFound."""
    _, state = named(store, backfill)
    return Done(state, tasks=store.backfills.tasks(state["backfill"]))


def rollback(store: Store, backfill: str | None, who: str, why: str) -> tuple[Done, int, int]:
    """Cancel exactly those of its tasks that are still open. Returns it, how many were cancelled, and how many other sessions have locked."""
    with store.switches.alone("backfill", HELD):
        line, state = named(store, backfill)
        name, words = state["backfill"], f"backfill {state['backfill']} was rolled back by {who}"
        # The state is written first, so that an interrupted run is not resumed even if this one fails.
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
