"""A backup is one file: gzip, lines, a header with its version, a trailer with its checksum; written and read as a stream.

    H{…}  header: version of the format, schema, when, which parts
    T{…}  a table begins: its name and columns
    R…    one row of it, as COPY's text format writes it (one line a row)
    Z{…}  trailer: SHA-256 of every line before it, and rows by table

A truncated or altered file is detected before anything is changed: it is read to its end and verified first (`backup_file`), then read
again for the restore; each step checks that the file has not changed in between. Rows are streamed to PostgreSQL, so memory does not grow
with their number. Source of the row format: PostgreSQL manual, COPY, "Text Format".
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..store import Store
from ..store.backup_tables import tables_of
from ..store.restoring import Loaded
from .backup_file import FORMAT, LONGEST_ROW, Progress, again, opened, silent, table_of
from .backup_file import Contents as Contents
from .backup_file import verify as verify

# Twice as fast as gzip's default, and 5 % larger.
COMPRESSION = 3
STEP_ROWS, STEP_BYTES = 5000, 4_000_000


@dataclass(slots=True)
class Restored:
    """The result of a restore, by table. `made`: tasks that reconcile made afterwards; `warnings`: what was kept instead of the backup's value."""

    loaded: dict[str, dict[str, int]] = field(default_factory=dict)
    made: int = 0
    warnings: list[str] = field(default_factory=list)


def write(store: Store, path: Path, parts: Sequence[str] = (), show: Progress = silent) -> Contents:
    """Write a backup from one snapshot. `parts` (of PARTS) are added to the standard content. The file appears complete or not at all,
    readable by its owner only."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file", hint="choose another name for the backup")
    half = path.with_name(path.name + ".half")
    try:
        # An existing file of that name is never opened: it may be a leftover, or a link placed there by another user.
        half.unlink(missing_ok=True)
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=COMPRESSION) as sink:
                contents = _write(store, sink, parts, show)
            raw.flush()
            os.fsync(raw.fileno())
        half.replace(path)
    except OSError as failed:
        raise InputError(f"{path} cannot be written: {failed.strerror}", hint="choose another place for the backup") from failed
    finally:
        with suppress(OSError):  # it may not have been created
            half.unlink()
    return contents


def _write(store: Store, sink: gzip.GzipFile, parts: Sequence[str], show: Progress) -> Contents:
    digest, rows, total = hashlib.sha256(), dict[str, int](), 0

    def put(line: bytes) -> None:
        digest.update(line)
        sink.write(line)

    with store.backups.snapshot() as snapshot:
        header = {"embedq_backup": FORMAT, "parts": sorted(parts)} | snapshot.facts
        put(b"H" + _json(header))
        for table in tables_of(parts):
            put(b"T" + _json({"table": table, "columns": snapshot.columns(table)}))
            rows[table] = 0
            for row in snapshot.rows(table):
                if len(row) > LONGEST_ROW:
                    raise _too_long_to_keep(table, row)
                put(b"R" + row)
                rows[table] += 1
                total += 1
                if total % 1000 == 0:
                    show(total)
    sink.write(b"Z" + _json({"sha256": digest.hexdigest(), "rows": rows}))
    return Contents(header, rows)


def _too_long_to_keep(table: str, row: bytes) -> InputError:
    return InputError(
        f"a row of {table} has {len(row):,} bytes: {_key(row)[:100].decode('utf-8', 'replace')}",
        hint=f"a backup holds rows of at most {LONGEST_ROW:,} bytes: shorten that text, or take a copy with pg_dump",
    )


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, default=str, separators=(",", ":")).encode() + b"\n"


def restore(store: Store, path: Path, *, live_row: bool, show: Progress = silent, checked: Contents | None = None) -> Restored:
    """Restore a verified file in steps that each commit and are idempotent: a run after an interruption gives the same result. `live_row`:
    also restore mode, pauses and throttle. Newer rows of the database stay.

    `checked`: the result of `verify`. Raises InputError if the file has changed since."""
    done, total = Restored(), 0
    with (
        store.switches.alone("restore", "another restore is at work: wait for it"),
        store.backups.loading(live_row=live_row) as loading,
        opened(path) as file,
    ):
        for table, columns, steps in _tables(path, again(path, file, checked)):
            counted = done.loaded.setdefault(table, {})
            for step in steps:
                loaded: Loaded = loading.load(table, columns, step)
                for what, number in loaded.items():
                    counted[what] = counted.get(what, 0) + number
                total += step.number
                show(total)
        done.warnings = loading.warnings
    done.made = store.care.reconcile_if_tasks_are_made()
    store.workers.wake()
    return done


def _tables(path: Path, lines: Iterator[bytes]) -> Iterator[tuple[str, list[str], Iterator[_Step]]]:
    """Each table of the file with its columns and its rows in steps. Consume the steps before advancing to the next table."""
    table: dict[str, Any] = {}

    def belongs_to(line: bytes) -> str:
        if line[:1] == b"T":
            table.update(json.loads(line[1:]))
            table_of(path, table)
        return str(table.get("table", ""))

    for name, group in groupby(lines, belongs_to):
        yield name, table["columns"], _steps(line[1:] for line in group if line[:1] == b"R")


class _Step:
    """Rows that are restored in one transaction, read lazily and once. Rows with the same first column stay in one step: an article's
    vectors are stored completely or not at all. `following`: the first row of the next step."""

    def __init__(self, first: bytes, rest: Iterator[bytes]) -> None:
        self.number = 0
        self.following: bytes | None = None
        self._first, self._rest = first, rest

    def __iter__(self) -> Iterator[bytes]:
        row: bytes | None = self._first
        size = 0
        while row is not None:
            yield row
            self.number += 1
            size += len(row)
            following = next(self._rest, None)
            if following and (self.number >= STEP_ROWS or size >= STEP_BYTES) and _key(following) != _key(row):
                self.following = following
                return
            row = following


def _steps(rows: Iterator[bytes]) -> Iterator[_Step]:
    first = next(rows, None)
    while first is not None:
        step = _Step(first, rows)
        yield step
        first = step.following


def _key(row: bytes) -> bytes:
    return row.partition(b"\t")[0]
