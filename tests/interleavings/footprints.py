"""What a step touches, and whether two steps can be exchanged without anybody noticing (docs/why/explorer.rst)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

READS = {"AccessShareLock"}
ROWS = {"RowShareLock", "RowExclusiveLock"}
WRITES = "RowExclusiveLock"
# Only ever added to, and read by nothing that decides: the order of two additions, or of one and a clean-up of old rows, shows nowhere.
APPENDED = {"embedding_audit_logs", "performance_metrics"}
Names = frozenset[str]
# SERIALIZABLE transactions watch each other's reads and the order of their commits: all their steps depend on each other.
WATCHED: Names = frozenset({"serializable transactions"})
NONE: Names = frozenset()
_WORD = re.compile(r"[a-z_][a-z_0-9]*")
_WRITE = re.compile(r"\b(insert\s+into|update|delete\s+from|delete|merge\s+into|truncate|copy)\b")
_PARTITION = re.compile(r"embedding_vectors_\d+")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Names of relations. `locks`: of which the step has locked or written rows; `tries`: of which it would have, and found none.

    `publishes`, `releases`: what a commit makes visible, and whose row locks it gives up. `strong`: locked as wholes. `held`, `shared`:
    advisory locks, taken or given up. `snapshot`: its transaction reads by what is committed now. `everything`: not known.
    """

    reads: Names = NONE
    locks: Names = NONE
    tries: Names = NONE
    publishes: Names = NONE
    releases: Names = NONE
    strong: Names = NONE
    held: Names = NONE
    shared: Names = NONE
    snapshot: bool = False
    everything: bool = False

    def __or__(self, other: Footprint) -> Footprint:
        return Footprint(*(getattr(self, name) | getattr(other, name) for name in _NAMES))

    @property
    def touches(self) -> Names:
        return self.reads | self.locks | self.tries | self.publishes | self.releases | self.strong


_NAMES = list(Footprint.__dataclass_fields__)


def dependent(one: Footprint, other: Footprint) -> bool:
    return _hinders(one, other) or _hinders(other, one) or bool(one.locks & other.locks)


def _hinders(one: Footprint, other: Footprint) -> bool:
    if one.everything and (other.touches or other.held or other.shared):
        return True
    if one.publishes and other.snapshot:
        return True
    return bool(
        one.publishes & (other.reads | other.locks | other.tries)
        or one.releases & (other.locks | other.tries)
        or one.locks & other.tries
        or one.strong & other.touches
        or one.held & (other.held | other.shared)
    )


@dataclass(slots=True)
class Held:
    """What a backend holds, from pg_locks."""

    rows: dict[str, set[str]] = field(default_factory=dict)
    strong: set[str] = field(default_factory=set)
    advisory: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    changed: bool = False  # it has a transaction id: it wrote or locked rows
    waits: bool = False

    def add(self, locktype: str, name: str | None, mode: str, granted: bool, key: str) -> None:
        self.waits |= not granted
        if locktype == "tuple":
            return  # a wait's place in line; what it waits for, the table's own lock says
        if locktype == "transactionid":
            self.changed |= granted and mode == "ExclusiveLock"
        elif locktype == "advisory":
            (self.shared if mode == "ShareLock" else self.advisory).add(key)
        elif name is not None and name not in APPENDED:
            if mode in READS or mode in ROWS:
                self.rows.setdefault(name, set()).add(mode)
            else:
                self.strong.add(name)

    @property
    def locked(self) -> Names:
        return frozenset(name for name, modes in self.rows.items() if modes & ROWS) | frozenset(self.strong)

    @property
    def written(self) -> Names:
        return frozenset(name for name, modes in self.rows.items() if WRITES in modes) | frozenset(self.strong)

    @property
    def nothing(self) -> bool:
        """Its commit changes nothing for anybody."""
        return not (self.changed or self.strong or self.advisory or self.shared)


def of_statement(before: Held, after: Held, mentioned: Names, *, snapshot: bool, frozen: bool) -> Footprint:
    """What it mentions, or has locked just now; how, the locks say."""
    fresh = {name for name in after.rows if after.rows[name] != before.rows.get(name)}
    touched = {name for name in after.rows if name in mentioned or name in fresh}
    locks = frozenset(name for name in touched if after.rows[name] & ROWS)
    reads = NONE if frozen else frozenset(touched)
    strong = frozenset(after.strong - before.strong) | (frozenset(after.strong) & mentioned)
    kind = {"locks" if after.changed or after.waits else "tries": locks}
    return Footprint(
        reads=reads,
        strong=strong,
        snapshot=snapshot,
        **kind,
        held=frozenset(after.advisory - before.advisory),
        shared=frozenset(after.shared - before.shared),
    )


def of_commit(before: Held) -> Footprint:
    if before.nothing:
        return Footprint()
    return Footprint(
        publishes=before.written if before.changed else frozenset(before.strong),
        releases=before.locked if before.changed else NONE,
        strong=frozenset(before.strong),
        held=frozenset(before.advisory),
        shared=frozenset(before.shared),
    )


def of_rollback(before: Held, mentioned: Names, *, snapshot: bool) -> Footprint:
    """A statement that failed: what it had done when it failed is gone from pg_locks, so all that it mentions counts."""
    return Footprint(
        reads=mentioned,
        locks=mentioned,
        releases=before.locked | mentioned,
        strong=frozenset(before.strong),
        snapshot=snapshot,
        held=frozenset(before.advisory),
        shared=frozenset(before.shared),
    )


class Mentions:
    """Which tables a statement can touch: those it names, through views, functions, triggers and foreign keys. Read from the catalogs."""

    def __init__(self, connection: Any) -> None:
        self.tables = {row[0]: row[1] for row in connection.execute(_TABLES).fetchall()}
        self._views = dict(connection.execute(_VIEWS).fetchall())
        self._functions = dict(connection.execute(_FUNCTIONS).fetchall())
        self._on_write: dict[str, set[str]] = {}
        for table, function in connection.execute(_TRIGGERS).fetchall():
            self._on_write.setdefault(table, set()).add(function)
        self.of = cache(self._of)

    def _of(self, sql: str) -> Names:
        texts, seen, writes = [sql], set[str](), False
        while texts:
            text = texts.pop().lower()
            writes = writes or bool(_WRITE.search(text))
            fresh = set(_WORD.findall(text)) - seen
            seen |= fresh
            for word in fresh:
                texts += [each[word] for each in (self._views, self._functions) if word in each]
            if writes:
                texts += [
                    " ".join(self._on_write[table]) for table in seen & self._on_write.keys() if self._on_write[table] - seen
                ]
        return frozenset(named(word) for word in seen if word in self.tables or _PARTITION.fullmatch(word))


def named(table: str) -> str:
    """A model's table counts as the one of all: what is dropped or attached there hinders everybody."""
    return "embedding_vectors" if _PARTITION.fullmatch(table) else table


_TABLES = """SELECT relname, oid::bigint FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace"""
_VIEWS = (
    "SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace"
)
_FUNCTIONS = """SELECT proname, string_agg(pg_get_functiondef(oid), E'\n') FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace AND prokind = 'f' AND proname LIKE 'embedq%%' GROUP BY proname"""
_TRIGGERS = """SELECT c.relname, p.proname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal
UNION SELECT c.relname, r.relname FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid WHERE f.contype = 'f'
UNION SELECT r.relname, c.relname FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid WHERE f.contype = 'f'"""
