"""A backup is one file (R16): gzip, lines, a header with its version, a trailer with its checksum; written and read as a stream.

    H{…}  header: version of the format, schema, when, which parts
    T{…}  a table begins: its name and columns
    R…    one row of it, as COPY's text format writes it (one line a row)
    Z{…}  trailer: SHA-256 of every line before it, and rows by table

A file that is cut off or altered is found out before anything is touched: it is read to its end first, and only then again to be
used. Source of the row format: PostgreSQL manual, COPY, "Text Format".
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from .errors import InputError
from .store import Store
from .store.backups import Loaded, tables_of

FORMAT = 1
# Twice as fast as gzip's own choice, and a twentieth larger.
COMPRESSION = 3
STEP_ROWS, STEP_BYTES = 5000, 4_000_000
ANOTHER = "take another backup file; `embedq backup FILE` writes one"

Progress = Callable[[int], None]


def silent(_: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contents:
    """What a verified file holds: its header, and rows by table."""

    header: Mapping[str, Any]
    rows: Mapping[str, int]


@dataclass(slots=True)
class Restored:
    """What a restore did, by table; `made`: tasks that reconcile made afterwards; `warnings`: what was left as it is here."""

    loaded: dict[str, dict[str, int]] = field(default_factory=dict)
    made: int = 0
    warnings: list[str] = field(default_factory=list)


def write(store: Store, path: Path, parts: Sequence[str] = (), show: Progress = silent) -> Contents:
    """Write a backup as one moment saw everything. `parts` of PARTS come with what is always in it. The file appears whole, or not
    at all, and only its owner may read it."""
    half = path.with_name(path.name + ".half")
    try:
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=COMPRESSION) as sink:
                contents = _write(store, sink, parts, show)
            raw.flush()
            os.fsync(raw.fileno())
        half.replace(path)
    except OSError as failed:
        raise InputError(f"{path} cannot be written: {failed.strerror}", hint="choose another place for the backup") from failed
    finally:
        with suppress(FileNotFoundError):
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
                put(b"R" + row)
                rows[table] += 1
                total += 1
                if total % 1000 == 0:
                    show(total)
    sink.write(b"Z" + _json({"sha256": digest.hexdigest(), "rows": rows}))
    return Contents(header, rows)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, default=str, separators=(",", ":")).encode() + b"\n"


def verify(path: Path, show: Progress = silent) -> Contents:
    """Read the whole file. Raises InputError unless every line of it is as it was written, and nothing follows."""
    try:
        return _verified(path, show)
    except (ValueError, KeyError, TypeError) as strange:
        raise InputError(f"{path} was altered: a line of it makes no sense", hint=ANOTHER) from strange


def _verified(path: Path, show: Progress) -> Contents:
    digest, rows, table = hashlib.sha256(), dict[str, int](), ""
    lines = _lines(path)
    first = next(lines, b"")
    header = _header(path, first)
    digest.update(first)
    for number, line in enumerate(lines, 1):
        if line[:1] == b"Z":
            _check_seal(path, json.loads(line[1:]), digest.hexdigest(), rows)
            if next(lines, None) is not None:
                raise InputError(f"{path} was altered: something follows its end", hint=ANOTHER)
            return Contents(header, rows)
        if line[:1] == b"T":
            table = json.loads(line[1:])["table"]
            rows[table] = 0
        else:
            rows[table] += 1
        digest.update(line)
        if number % 1000 == 0:
            show(number)
    raise InputError(f"{path} is cut off: it has no end", hint=ANOTHER)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(line[1:]) if line[:1] == b"H" else {}
    except ValueError:
        header = {}
    version = header.get("embedq_backup")
    if not isinstance(version, int):
        raise InputError(f"{path} is no backup of embedq's", hint=ANOTHER)
    if version > FORMAT:
        raise InputError(
            f"{path} has the format {version}; this version of embedq reads up to {FORMAT}",
            hint="restore it with the version that wrote it, or a later one",
        )
    return header


def _check_seal(path: Path, said: Mapping[str, Any], digest: str, rows: Mapping[str, int]) -> None:
    if said["sha256"] != digest or said["rows"] != rows:
        raise InputError(f"{path} was altered: its checksum is another one", hint=ANOTHER)


def _lines(path: Path) -> Iterator[bytes]:
    """Raises InputError where the file cannot be read, is cut off or does not unpack."""
    try:
        with gzip.open(path, "rb") as source:
            yield from source
    except (EOFError, zlib.error, gzip.BadGzipFile) as broken:
        raise InputError(f"{path} is cut off or altered ({broken})", hint=ANOTHER) from broken
    except OSError as failed:
        raise InputError(f"{path} cannot be read: {failed.strerror or failed}", hint=ANOTHER) from failed


def restore(store: Store, path: Path, *, live_row: bool, show: Progress = silent) -> Restored:
    """Bring a verified file back, step by step; each step commits, and may be repeated: run again after an interruption, the end is
    the same. `live_row`: mode, pauses and throttle too. What is newer here and not in the file stays."""
    done, total = Restored(), 0
    with (
        store.switches.alone("restore", "another restore is at work: wait for it"),
        store.backups.loading(live_row=live_row) as loading,
    ):
        for table, columns, steps in _tables(path):
            counted = done.loaded.setdefault(table, {})
            for step in steps:
                loaded: Loaded = loading.load(table, columns, step)
                for what, number in loaded.items():
                    counted[what] = counted.get(what, 0) + number
                total += len(step)
                show(total)
        done.warnings = loading.warnings
    done.made = store.care.reconcile_if_tasks_are_made()
    store.operate.wake()
    return done


def _tables(path: Path) -> Iterator[tuple[str, list[str], Iterator[list[bytes]]]]:
    """Each table of the file with its columns, and its rows in steps. The steps must be read before the next table is asked for."""
    table: dict[str, Any] = {}

    def belongs_to(line: bytes) -> str:
        if line[:1] == b"T":
            table.update(json.loads(line[1:]))
        return str(table.get("table", ""))

    lines = (line for line in _lines(path) if line[:1] in b"TR")
    for name, group in groupby(lines, belongs_to):
        yield name, table["columns"], _steps(line[1:] for line in group if line[:1] == b"R")


def _steps(rows: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Rows that begin with the same value stay together: an article's vectors are stored whole or not at all."""
    step, size = list[bytes](), 0
    for row in rows:
        if (len(step) >= STEP_ROWS or size >= STEP_BYTES) and _key(row) != _key(step[-1]):
            yield step
            step, size = [], 0
        step.append(row)
        size += len(row)
    if step:
        yield step


def _key(row: bytes) -> bytes:
    return row.partition(b"\t")[0]
