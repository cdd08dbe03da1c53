"""Taking tasks in flight away from their workers, beside writers and without waiting for them.

Used by a switch that waited long enough, by rollback procedures, `emergency-stop` and `reset-stuck`. A task whose article a transaction is
writing at this moment cannot become pending before that transaction has ended: its worker loses the lease, and the steward does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..store import Store
from ..store.bulk import Act, Picked, Swept
from ..store.database import Row
from ..store.fence import told_all

# The rounds take longer than a session of ours must have hung before it is ended.
PATIENCE_S, ROUNDS = 1.0, 4


@dataclass(slots=True)
class HandedOver:
    """`swept`: what became of the tasks. `ended`: sessions of embedq's own that hung and were ended. `in_the_way`: sessions that still
    hold a task or its article."""

    swept: Swept = field(default_factory=Swept)
    ended: int = 0
    in_the_way: Sequence[Row] = ()

    @property
    def handed(self) -> int:
        """Tasks that are the table's again, or were superseded."""
        return self.swept.total - self.taken

    @property
    def taken(self) -> int:
        """Tasks that no worker holds any more and whose article is being written; what their workers bring is discarded."""
        return self.swept.states["processing"]

    @property
    def left(self) -> int:
        """Tasks that a transaction has locked: as they were."""
        return self.swept.left

    def warnings(self) -> list[str]:
        """What could not be handed over, who is in the way, and what becomes of it."""
        if not self.taken + self.left:
            return []
        parts = [f"{self.taken} tasks were taken from their workers and wait for"] if self.taken else []
        parts += [f"{self.left} tasks are locked by"] if self.left else []
        who = told_all(self.in_the_way) if self.in_the_way else "a transaction that has ended meanwhile"
        return [
            f"{' and '.join(parts)} a transaction that writes them: {who}; when it ends, a running worker's steward takes them"
        ]


def hand_over(store: Store, picked: Picked, act: Act) -> HandedOver:
    """Within seconds, whatever others hold. Sessions of embedq's own that hang while they hold a task or its article are ended."""
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
    """Of two sweeps. Tasks that the first could only take away the second has met again."""
    del before.states["processing"]
    return Swept(before.states + after.states, sorted({*before.ids, *after.ids}), after.left)


def free_all(store: Store, older_s: float = 0.0) -> int:
    """Everything the broker was trusted with (more than `older_s` seconds ago) is the table's again; pollers hear of it from the first step
    on. Returns how many tasks."""
    freed = 0
    while (step := store.tasks.free_dispatched(older_s)) > 0:
        freed += step
        store.workers.wake()
    return freed
