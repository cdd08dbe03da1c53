"""A migration in steps, beside the workers and writers of this version and the one before (docs/why/upgrades.rst).

A line `-- step` in its file begins a step. Each is a transaction of its own and locks one table at most, the one that the line names, with its
partitions, so that nobody waits behind it for longer than LOCK_WITHIN for each of them and the change itself. `-- step: beside writers` is outside
of a transaction, its statements (CREATE INDEX CONCURRENTLY) apart by empty lines. How many steps are done is kept with the schema's version: an
upgrade that was interrupted goes on there.
"""

from __future__ import annotations

import random
import re
import time
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from ..errors import NotWell
from .queries import QUERIES

BESIDE_WRITERS = "beside writers"
MARK = re.compile(r"^-- step(?:: (.+))?\n", re.MULTILINE)
ONLY_IN_STEPS = re.compile(r"\bCONCURRENTLY |^ *COMMIT;\n", re.MULTILINE)
HALF_DONE = re.compile(r"(\d{4})_(up|down)\.sql: (\d+) steps are done")

# Whoever comes after a change that waits for its lock waits behind it.
LOCK_WITHIN = "60ms"
# PostgreSQL ends an autovacuum that is in the way after deadlock_timeout (1 s); waiting for that is behind no reader's or writer's back.
VACUUM_ENDS_WITHIN = "3s"
# CREATE INDEX CONCURRENTLY waits for transactions that began before it, and nobody waits for it.
BESIDE_WITHIN = "60s"
PATIENCE_S = 20.0


class Step(NamedTuple):
    """`place`: the table that is locked, BESIDE_WRITERS, or nothing."""

    place: str
    sql: str


class HalfDone(NamedTuple):
    revision: str
    way: str
    steps: int


def steps_of(text: str) -> list[Step]:
    """Of a migration's file. What stands before the first mark is a comment; a file without marks is one step."""
    _, *parts = MARK.split(text)
    return [Step(place or "", body) for place, body in zip(parts[::2], parts[1::2], strict=True)] or [Step("", text)]


def at_once(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    """All steps that are left in the transaction that is open: for a schema that nobody uses yet, or any more."""
    for step in _left(connection, name, text):
        connection.execute(ONLY_IN_STEPS.sub("", step.sql))


def in_steps(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    """Leaves the last step's transaction open: the schema's new version is committed with it. Raises psycopg's LockNotAvailable when a table
    was in use for PATIENCE_S."""
    connection.commit()
    left, all_of_them = _left(connection, name, text), len(steps_of(text))
    for number, step in enumerate(left, all_of_them - len(left) + 1):
        _patiently(connection, step, f"{name}: {number} steps are done" if number < all_of_them else None)


def _left(connection: psycopg.Connection[Any], name: str, text: str) -> list[Step]:
    """The steps of this migration that are not done yet."""
    half = half_done(connection)
    begun = half is not None and name == f"{half.revision}_{half.way}.sql"
    return steps_of(text)[half.steps if half and begun else 0 :]


def half_done(connection: psycopg.Connection[Any]) -> HalfDone | None:
    """The migration that was begun and has not ended."""
    row = connection.execute(QUERIES.steps_done).fetchone()
    (said,) = row.values() if isinstance(row, dict) else row or (None,)
    found = HALF_DONE.fullmatch(said or "")
    return HalfDone(found[1], found[2], int(found[3])) if found else None


def refuse_half_done(connection: psycopg.Connection[Any], way: str) -> None:
    """The other way begins where a migration has ended. Raises NotWell."""
    half = half_done(connection)
    if half is not None and half.way != way:
        word = "upgrade" if half.way == "up" else "downgrade"
        raise NotWell(
            f"the {word} of the schema by migration {half.revision} was interrupted after {half.steps} of its steps",
            hint=f"run `embedq db {word}` to its end, which goes on there, and then go the other way",
        )


def _patiently(connection: psycopg.Connection[Any], step: Step, note: str | None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _once(connection, step, note)
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.1, 0.5))


def _once(connection: psycopg.Connection[Any], step: Step, note: str | None) -> None:
    if step.place == BESIDE_WRITERS:
        _beside_writers(connection, step.sql)
    else:
        _lock(connection, step.place)
        connection.execute(step.sql)
    connection.execute(sql.SQL(QUERIES.note_steps).format(note=sql.Literal(note)))
    if note is not None:
        connection.commit()


def _lock(connection: psycopg.Connection[Any], table: str) -> None:
    """First against autovacuum alone, which no reader and no writer notices."""
    if table:
        connection.execute(QUERIES.be_patient_for, {"timeout": VACUUM_ENDS_WITHIN})
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(table)))
    connection.execute(QUERIES.be_patient_for, {"timeout": LOCK_WITHIN})


def _beside_writers(connection: psycopg.Connection[Any], text: str) -> None:
    connection.commit()
    connection.autocommit = True
    try:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [BESIDE_WITHIN])
        for statement in text.strip().split("\n\n"):
            connection.execute(statement)
    finally:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_WITHIN])
        connection.autocommit = False
