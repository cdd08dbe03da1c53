"""Ends embedq's own database sessions whose program hangs in the middle of a transaction: it was stopped, or its machine is gone.

PostgreSQL ends a session that is idle in a transaction after some seconds, but not one that waits for its program in the middle of a statement
(a COPY, a long answer). Its locks on tasks, articles and the fence would block claims, writers and operators.
"""

from __future__ import annotations

from ..store import Store
from ..store.database import Row
from ..store.fence import told

# A session is ended when two looks in a row find it silent for this long in the same statement.
LOOK_EVERY_S, SILENT_S = 3.0, 8.0


class FrozenSessions:
    """The sessions that hung at the last look; `store` ends those that still do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seen: dict[int, Row] = {}

    def end_those_still_frozen(self) -> int:
        """One look. Returns how many sessions were ended; each is in the audit log. A COPY that makes progress is not frozen."""
        looked = self.store.fence.holders(fence=True, tables=True, stuck_s=SILENT_S)
        before, self._seen = self._seen, {each["pid"]: each for each in looked if each["ours"] and each["stuck"]}
        pids = [pid for pid, each in self._seen.items() if pid in before and not _got_on(before[pid], each)]
        if not pids:
            return 0
        looked = self.store.fence.holders(fence=True, tables=True, stuck_s=SILENT_S, end=True, pids=pids)
        ended = [each for each in looked if each["ended"]]
        for each in ended:
            words = f"a frozen session of embedq's own was ended: {told(each)}"
            self.store.audit.write("session", words, level="warning", pid=each["pid"])
        return len(ended)


def _got_on(before: Row, now: Row) -> bool:
    """Whether the session runs another statement, or is further in the same COPY."""
    return any(before[name] != now[name] for name in ("state_change", "copied"))
