"""Safe reading of untrusted files (regular files only, in pieces of bounded size), and writing of files that a caller names.

Opening a FIFO blocks, a device may never end, and a path may be replaced between a check and its use: a file is opened without blocking
first, and then the open file is checked.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Final, NamedTuple

from ..decide.refusals import of_file

# Longest line in bytes, which bounds its memory.
LONGEST_LINE: Final = 10_000_000
# Limits of such values in a JSON line longer than SMALL: parsed, `[],` takes twenty times its size, and `1,` four times.
SMALL: Final = 1_000_000
MOST_BRACKETS: Final = 100_000
MOST_COMMAS: Final = 1_000_000

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
}


class Version(NamedTuple):
    """The identity and state of an open file; it changes when another process writes to it."""

    size: int
    modified_ns: int


def open_regular(path: Path) -> BinaryIO:
    """Open the named file, following links. Raises OSError, also if it is not a regular file."""
    _refuse_others(os.stat(path).st_mode)
    return _regular(os.open(path, _FLAGS))


@contextmanager
def written(path: Path, *, private: bool = False) -> Iterator[IO[str]]:
    """Open the file, truncated, for writing UTF-8; `private`: readable by its owner only. Raises InputError, also if a write fails. A FIFO
    without a reader is refused, because opening it would block."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
        with os.fdopen(number, "w", encoding="utf-8") as sink:
            os.set_blocking(number, True)
            if private and stat.S_ISREG(os.fstat(number).st_mode):  # the mode of a device is not changed
                os.fchmod(number, 0o600)
            yield sink
    except OSError as failed:
        raise of_file(failed, path, "written") from failed


def open_below(root: Path, path: Path) -> BinaryIO:
    """Open a file below the folder `root` (a resolved path). Raises OSError if it is outside at the time of opening."""
    real = path.resolve()
    if not real.is_relative_to(root):
        raise OSError(errno.ELOOP, "a link that leads out of the folder")
    *folders, name = real.relative_to(root).parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            # Refuse path components that have become links.
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        _refuse_others(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        return _regular(os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=at))
    finally:
        os.close(at)


def _regular(number: int) -> BinaryIO:
    try:
        _refuse_others(os.fstat(number).st_mode)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _refuse_others(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a file")


def kind_of(mode: int) -> str:
    """The kind of a path that is not a regular file, as text."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def version_of(file: BinaryIO) -> Version:
    found = os.fstat(file.fileno())
    return Version(found.st_size, found.st_mtime_ns)


def lines_of(file: BinaryIO, longest: int = LONGEST_LINE, end: int | None = None) -> Iterator[bytes | None]:
    """Each line without its line end; None for one that is too long, which is skipped piece by piece. `end`: lines that begin at this
    position or later are not read, because they were written after the file was measured."""
    passed = len(line := file.readline(longest + 2))
    line = line.removeprefix(codecs.BOM_UTF8)
    while line:
        text = line.rstrip(b"\r\n")
        yield text if len(text) <= longest else None
        while line and not line.endswith(b"\n"):
            passed += len(line := file.readline(SMALL))
        if end is not None and passed >= end:
            return
        passed += len(line := file.readline(longest + 2))


def refuse_many_values(line: bytes) -> None:
    """Raises ValueError for JSON that would take many times its size when parsed."""
    if len(line) > SMALL and (line.count(b"[") + line.count(b"{") > MOST_BRACKETS or line.count(b",") > MOST_COMMAS):
        raise ValueError("more values than a line may have")
