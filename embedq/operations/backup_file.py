"""Reading a backup's file (its format: `backup`): nothing is used before its checksum was verified, and every size is bounded.

Only a regular file is read. Unpacked, a row has at most LONGEST_ROW bytes, a line of JSON LONGEST_JSON, and the whole file `most_unpacked`.
Raises InputError for everything else.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError
from ..local.files import Version, open_regular, version_of
from ..store.backup_tables import TABLES

FORMAT = 1
LONGEST_ROW = 64_000_000
LONGEST_JSON = 1_000_000
# Repetitive text is compressed a hundredfold, zeros a thousandfold.
UNPACKED_ANYWAY, UNPACKED_A_BYTE = 300_000_000, 500
# Bytes whose processing takes as long as the overhead of one line.
LINE_COSTS = 100
ANOTHER = "take another backup file; `embedq backup FILE` writes one"

Progress = Callable[[int], None]


def silent(_: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of a verified file: its header, and the number of rows by table. `version`: identity of the file that was read; None for
    one just written."""

    header: Mapping[str, Any]
    rows: Mapping[str, int]
    version: Version | None = None


def verify(path: Path, show: Progress = silent) -> Contents:
    """Read the whole file. Raises InputError unless its checksum and row counts are right and nothing follows the trailer."""
    with opened(path) as file:
        return _verified(path, file, show)


def _verified(path: Path, file: BinaryIO, show: Progress) -> Contents:
    try:
        return _read_through(path, file, show)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as strange:
        raise InputError(f"{path} was altered: a line of it cannot be read", hint=ANOTHER) from strange


def _read_through(path: Path, file: BinaryIO, show: Progress) -> Contents:
    digest, rows, table, version = hashlib.sha256(), dict[str, int](), "", version_of(file)
    lines = unpacked_lines(path, file)
    first = next(lines, b"")
    header = _header(path, first)
    digest.update(first)
    for number, line in enumerate(lines, 1):
        match line[:1]:
            case b"Z":
                _check_seal(path, json.loads(line[1:]), digest.hexdigest(), rows)
                if next(lines, None) is not None:
                    raise InputError(f"{path} was altered: something follows its end", hint=ANOTHER)
                return Contents(header, rows, version)
            case b"T":
                table = table_of(path, json.loads(line[1:]))
                rows[table] = 0
            case b"R":
                rows[table] += 1
            case _:
                raise ValueError("a line of an unknown kind")
        digest.update(line)
        if number % 1000 == 0:
            show(number)
    raise InputError(f"{path} is cut off: it has no end", hint=ANOTHER)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header: Any = json.loads(line[1:]) if line[:1] == b"H" else {}
    except (ValueError, RecursionError):
        header = {}
    version = header.get("embedq_backup") if isinstance(header, dict) else None
    if type(version) is not int:
        raise InputError(f"{path} is no backup of embedq's", hint=ANOTHER)
    if version > FORMAT:
        raise InputError(
            f"{path} has the format {version}; this version of embedq reads up to {FORMAT}",
            hint="restore it with the version that wrote it, or a later one",
        )
    datetime.fromisoformat(header["taken_at"])
    return dict(header)


def table_of(path: Path, said: Mapping[str, Any]) -> str:
    """The table's name. Raises InputError for an unknown table, ValueError for invalid columns."""
    table, columns = said["table"], said["columns"]
    if table not in TABLES:
        raise InputError(
            f"{path} has a table {table!r} that is not embedq's", hint="it was written by another program or version"
        )
    if not isinstance(columns, list) or not columns or len(set(columns)) != len(columns):
        raise ValueError("no columns, or one twice")
    if not all(isinstance(name, str) and name and "\0" not in name for name in columns):
        raise ValueError("a column without a name")
    return str(table)


def _check_seal(path: Path, said: Mapping[str, Any], digest: str, rows: Mapping[str, int]) -> None:
    if said["sha256"] != digest or said["rows"] != rows:
        raise InputError(f"{path} was altered: its checksum is another one", hint=ANOTHER)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open the file. Raises InputError if it cannot be read or is not a regular file: opening a FIFO blocks, a device never ends."""
    try:
        file = open_regular(path)
    except OSError as failed:
        raise InputError(f"{path} cannot be read: {failed.strerror or failed}", hint=ANOTHER) from failed
    with file:
        yield file


def most_unpacked(packed_bytes: int) -> int:
    """The largest unpacked size that is accepted for a file of this size."""
    return UNPACKED_ANYWAY + UNPACKED_A_BYTE * packed_bytes


def unpacked_lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The file's lines. Raises InputError if it cannot be read, is truncated, does not unpack, or unpacks to more than `most_unpacked`."""
    file.seek(0)
    left = most_unpacked(version_of(file).size)
    try:
        with gzip.GzipFile(fileobj=file) as source:
            while line := source.readline(LONGEST_ROW + 2):
                left -= len(line) + LINE_COSTS
                longest = LONGEST_ROW if line[:1] == b"R" else LONGEST_JSON
                if len(line) > longest + 1:
                    raise _too_large(path, f"a line of more than {longest:,} bytes")
                if left < 0:
                    raise _too_large(path, "more than a file of its size can hold")
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as broken:
        raise InputError(f"{path} is cut off or altered ({broken})", hint=ANOTHER) from broken
    except OSError as failed:
        raise InputError(f"{path} cannot be read: {failed.strerror or failed}", hint=ANOTHER) from failed


def _too_large(path: Path, what: str) -> InputError:
    return InputError(f"{path} unpacks to {what}", hint=f"embedq writes no such backup; {ANOTHER}")


def again(path: Path, file: BinaryIO, checked: Contents | None) -> Iterator[bytes]:
    """The lines of tables and rows of a verified file. Raises InputError if the file has changed since."""
    version, digest = version_of(file), hashlib.sha256()
    if checked is not None and checked.version not in (None, version):
        raise changed(path)
    for number, line in enumerate(unpacked_lines(path, file)):
        if (number % 1000 == 0 or line[:1] != b"R") and version_of(file) != version:
            raise changed(path)
        if line[:1] == b"Z":
            if json.loads(line[1:])["sha256"] != digest.hexdigest():
                raise changed(path)
            return
        digest.update(line)
        if line[:1] in b"TR":
            yield line
    raise changed(path)


def changed(path: Path) -> InputError:
    """The error for a file that was written to during the restore."""
    return InputError(
        f"{path} was written to while it was restored",
        hint="nothing that came after is here; restore a file that is not being written",
    )
