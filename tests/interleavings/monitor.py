"""A session beside all others, that sees who holds which locks and who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .footprints import Held, Mentions, named

# Asked several times a step, so as one value each, and past all that psycopg does for its callers.
_LOCKS = """PREPARE locks (int[]) AS SELECT string_agg(concat_ws(' ', pid, locktype, coalesce(relation, 0), mode, granted, classid, objid), ',')
FROM pg_locks WHERE pid = ANY ($1)
AND (locktype IN ('advisory', 'transactionid') OR locktype IN ('relation', 'tuple') AND relation = ANY ('{{{oids}}}'))"""
_BLOCKING = "PREPARE blocking (int) AS SELECT array_to_string(pg_blocking_pids($1), ' ')"


class Monitor:
    """A session beside all others that sees who holds and who waits for what."""

    def __init__(self, connection: Any, mentions: Mentions) -> None:
        self.connection, self.mentions = connection, mentions
        self._names = {oid: named(name) for name, oid in mentions.tables.items()}
        connection.execute(_LOCKS.format(oids=",".join(map(str, self._names))))
        connection.execute(_BLOCKING)

    def held(self, pids: Sequence[int]) -> dict[int, Held]:
        found = {pid: Held() for pid in pids}
        for line in filter(None, self._asked(f"EXECUTE locks ('{{{','.join(map(str, pids))}}}')").split(",")):
            pid, locktype, relation, mode, granted, *key = line.split(" ")
            found[int(pid)].add(locktype, self._names.get(int(relation)), mode, granted == "t", ".".join(key))
        return found

    def blockers(self, pid: int) -> list[int]:
        return [int(each) for each in self._asked(f"EXECUTE blocking ({pid})").split()]

    def _asked(self, statement: str) -> str:
        answer = self.connection.pgconn.exec_(statement.encode()).get_value(0, 0)
        return answer.decode() if answer else ""

    def cancel(self, pid: int) -> None:
        self.connection.execute("SELECT pg_cancel_backend(%s)", (pid,))


def together(held: Sequence[Held]) -> Held:
    """What one operation holds by several sessions."""
    if len(held) == 1:
        return held[0]
    whole = Held()
    for each in held:
        for name, modes in each.rows.items():
            whole.rows.setdefault(name, set()).update(modes)
        whole.strong |= each.strong
        whole.advisory |= each.advisory
        whole.shared |= each.shared
        whole.changed |= each.changed
        whole.waits |= each.waits
    return whole
