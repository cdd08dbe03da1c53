"""Revokes tasks in flight from their workers, without waiting for transactions that write the articles.

Used by a mode switch after its wait, by rollback procedures, `emergency-stop` and `reset-stuck`. A task whose article is being written
cannot become pending before that transaction ends: its worker loses the lease now, and the steward makes the task pending later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..store import Store
from ..store.bulk import Act, Picked, Swept
from ..store.database import Row
from ..store.fence import told_all

# All rounds together last longer than the time after which a hanging session of embedq is ended.
PATIENCE_S, ROUNDS = 1.0, 4


@dataclass(slots=True)
class HandedOver:
    """`swept`: the new states of the tasks. `ended`: number of embedq's own hanging sessions that were ended. `in_the_way`: sessions that
    still lock a task or its article."""

    swept: Swept = field(default_factory=Swept)
    ended: int = 0
    in_the_way: Sequence[Row] = ()

    @property
    def handed(self) -> int:
        """Number of tasks that are pending again, or were superseded."""
        return self.swept.total - self.taken

    @property
    def taken(self) -> int:
        """Number of tasks that were revoked while their article is being written; results of their workers are discarded."""
        return self.swept.states["processing"]

    @property
    def left(self) -> int:
        """Number of tasks left unchanged, because a transaction has locked them."""
        return self.swept.left

    def warnings(self) -> list[str]:
        """What could not be handed over, which sessions block it, and what happens next."""
        if not self.taken + self.left:
            return []
        parts = [f"{self.taken} tasks were taken from their workers and wait for"] if self.taken else []
        parts += [f"{self.left} tasks are locked by"] if self.left else []
        who = told_all(self.in_the_way) if self.in_the_way else "a transaction that has ended meanwhile"
        return [
            f"{' and '.join(parts)} a transaction that writes them: {who}; when it ends, a running worker's steward takes them"
        ]


def hand_over(store: Store, picked: Picked, act: Act) -> HandedOver:
    """Revoke the picked tasks; takes seconds at most, whatever other sessions lock. Hanging sessions of embedq that lock a task or its
    article are ended."""
    done = HandedOver()
    for _ in range(ROUNDS):
        swept = store.operate.sweep(picked, act, patience_s=PATIENCE_S)
        done.swept = _together(done.swept, swept)
        if not done.taken + done.left:
            return done
        ours = [each for each in store.fence.holders(tables=True, end=True) if each["ours"]]
        done.ended += sum(each["ended"] for each in ours)
        if not ours:
            break
    done.in_the_way = store.fence.in_the_way()
    return done


def _together(before: Swept, after: Swept) -> Swept:
    """The result of two sweeps. Tasks that the first only revoked are counted by the second."""
    del before.states["processing"]
    return Swept(before.states + after.states, sorted({*before.ids, *after.ids}), after.left)


def free_all(store: Store, older_s: float = 0.0) -> int:
    """Take back all tasks that were dispatched to the broker more than `older_s` seconds ago, waking pollers after each step. Returns their
    number."""
    freed = 0
    while (step := store.tasks.free_dispatched(older_s)) > 0:
        freed += step
        store.workers.wake()
    return freed
