"""Files that others may have made: only regular ones are read, in pieces of bounded size. Files that a caller has named to be written.

Opening a FIFO waits for a writer, a device may never end, and what a path names may change between a look and the reading of it: a file
is opened first, without waiting, and then it is looked at what was opened.
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

# One line of a file of lines, and so what one of them may take in memory.
LONGEST_LINE: Final = 10_000_000
# Parsed, `[],` takes twenty times its size, and `1,` four: a line of JSON above SMALL may have so many of them.
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
    """Of an open file: what changes when another process writes to it."""

    size: int
    modified_ns: int


def open_regular(path: Path) -> BinaryIO:
    """The file that was named, by whatever links. Raises OSError, also for what is no regular file."""
    _refuse_others(os.stat(path).st_mode)
    return _regular(os.open(path, _FLAGS))


@contextmanager
def written(path: Path, *, private: bool = False) -> Iterator[IO[str]]:
    """The file, emptied, to be written as UTF-8; `private`: only its owner may read it. Raises InputError, also when a write fails. A FIFO
    without a reader is refused: opening it would wait for a reader."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
        with os.fdopen(number, "w", encoding="utf-8") as sink:
            os.set_blocking(number, True)
            if private and stat.S_ISREG(os.fstat(number).st_mode):  # a device's mode is everybody's
                os.fchmod(number, 0o600)
            yield sink
    except OSError as failed:
        raise of_file(failed, path, "written") from failed


def open_below(root: Path, path: Path) -> BinaryIO:
    """A file of the folder `root` (as `resolve` has it). Raises OSError for what lies outside of it at this moment."""
    real = path.resolve()
    if not real.is_relative_to(root):
        raise OSError(errno.ELOOP, "a link that leads out of the folder")
    *folders, name = real.relative_to(root).parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            # None of them may have become a link meanwhile.
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
    """What is there instead of a file, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def version_of(file: BinaryIO) -> Version:
    found = os.fstat(file.fileno())
    return Version(found.st_size, found.st_mtime_ns)


def lines_of(file: BinaryIO, longest: int = LONGEST_LINE, end: int | None = None) -> Iterator[bytes | None]:
    """Each line without its end; None for one that is too long, which is passed over piece by piece. `end`: what begins at that
    position or later was written meanwhile, and is not read."""
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
    """Raises ValueError for JSON that takes many times its size once it is parsed."""
    if len(line) > SMALL and (line.count(b"[") + line.count(b"{") > MOST_BRACKETS or line.count(b",") > MOST_COMMAS):
        raise ValueError("more values than a line may have")
