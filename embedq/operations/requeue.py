"""Requeue by an article's status, as runbooks ask for it: what should be under way and is not, gets under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..steward.hand_over import free_all, hand_over
from ..store import Store
from ..store.bulk import Act, Picked, Swept
from .task_actions import reviving

# Statuses of articles that are none of finished tasks. `skipped` and `failed` mean the same of both.
OF_ARTICLES = ("queued", "processing", "ready")
# What was dispatched a moment ago may still be on its way.
OLDER_S = 0.5


@dataclass(frozen=True, slots=True)
class Requeued:
    """`freed`: waiting tasks that came back from the broker, to be dispatched anew. `revived`: tasks that are pending again. `made`: new ones,
    for articles whose newest text has neither vector nor task. `left`: locked by other sessions."""

    freed: int = 0
    revived: int = 0
    made: int = 0
    left: int = 0


def of_articles(
    store: Store, status: str, tenants: Sequence[str] | None, limit: int | None, *, who: str, reason: str, held_s: float
) -> Requeued:
    """`queued`: frees what was given to the broker, so that a lost message is sent again. `processing`: hands back what dead workers hold, or any
    for longer than `held_s`. `ready`: makes tasks for what is stale. None of them embeds anew what has its vector."""
    swept, freed = Swept(), 0
    if status == "queued":
        freed = free_all(store, OLDER_S)
    elif status == "processing":
        picked = Picked(("processing",), tenants=tenants, held_s=held_s)
        words = {"words": f"handed back by {who}: requeue of processing"}
        swept = hand_over(store, picked, Act("hand_back", "requeue", who, reason, words)).swept
    else:
        picked = Picked(("completed",), tenants=tenants, newest=True, only_missing=True)
        act = reviving("requeue", who, reason)
        swept = store.operate.sweep(picked, act, limit=limit)
    room = None if limit is None else max(0, limit - swept.total)
    made = store.operate.want(store.operate.missing_without_task(tenants or (), room), None, "requeue") if room != 0 else 0
    if freed or made:
        counts = {"freed": freed, "made": made}
        store.audit.write("requeue", f"requeue of {status}: {freed} freed, {made} made", who=who, reason=reason, counts=counts)
    store.workers.wake()
    return Requeued(freed, swept.total, made, swept.left)
