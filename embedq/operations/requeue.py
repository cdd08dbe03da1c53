"""Requeues articles by their status (`embedq requeue --status`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..steward.hand_over import free_all, hand_over
from ..store import Store
from ..store.bulk import Act, Picked, Swept
from .task_actions import reviving

# Statuses that only articles have; `skipped` and `failed` mean the same for tasks and articles.
OF_ARTICLES = ("queued", "processing", "ready")
# Messages of tasks dispatched more recently may not have arrived yet.
OLDER_S = 0.5


@dataclass(frozen=True, slots=True)
class Requeued:
    """`freed`: dispatched tasks that were freed, to be dispatched again. `revived`: tasks that are pending again. `made`: new ones,
    for articles whose newest text has neither vector nor task. `left`: locked by other sessions."""

    freed: int = 0
    revived: int = 0
    made: int = 0
    left: int = 0


def of_articles(
    store: Store, status: str, tenants: Sequence[str] | None, limit: int | None, *, who: str, reason: str, held_s: float
) -> Requeued:
    """By status: `queued` frees dispatched tasks, so that lost messages are sent again. `processing` hands back tasks of dead workers, or
    those held for longer than `held_s`. `ready` makes tasks for stale articles. None of them embeds an article again whose vector is
    current."""
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
