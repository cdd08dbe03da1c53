"""The operator's throttle: stored in the live row, applied by every claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..decide.modes import LiveState
from ..decide.throttle import Throttle, throttle_of
from .database import Connection, Database
from .fence import Change, Fence
from .queries import QUERIES


class Throttles:
    def __init__(self, database: Database) -> None:
        self.database = database

    def live(self) -> Throttle:
        row = self.database.one(QUERIES.live_throttle)
        return throttle_of(row["throttle"]) if row else Throttle()

    def change(self, decide: Callable[[Throttle], Throttle], who: str, why: str) -> tuple[Throttle, Throttle]:
        """When this returns, every claim obeys it. `decide`: from the present throttle to the new one. Returns both."""

        def decided(live: LiveState) -> Change:
            before = live.throttle
            after = decide(before)
            values = {"throttle": after, "reason": why or "throttled", "changed_by": who}
            metadata = {"who": who, "reason": why, "before": before.data(), "after": after.data()}
            return Change(values, "throttle", f"throttle: {before.told()} -> {after.told()}", metadata)

        done = Fence(self.database).change(who, decided)
        return done.before.throttle, done.after.throttle

    def put_off(self, task_ids: Sequence[int], throttle: Throttle) -> int:
        """Release the tasks that a message named and the throttle did not let claim."""
        waits = [throttle.wait_s(place) for place in range(1, len(task_ids) + 1)]
        return self.database.execute(QUERIES.put_off, {"ids": [*task_ids], "waits": waits})


def room(connection: Connection, wanted: int) -> int:
    """Inside a claim, after the fence: how many of the `wanted` tasks may be claimed now."""
    row = connection.execute(QUERIES.live_throttle).fetchone()
    if row is None:
        return wanted
    throttle = throttle_of(row["throttle"])
    wanted = throttle.batch_of(wanted)
    if throttle.rate is None:
        return wanted
    connection.execute(QUERIES.one_claim_at_a_time)
    lately = connection.execute(QUERIES.claimed_lately, {"seconds": throttle.stretch_s}).fetchone()
    return max(0, min(wanted, throttle.stretch_tasks - (lately["tasks"] if lately else 0)))
