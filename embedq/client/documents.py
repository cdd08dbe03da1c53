"""Files and folders -> article drafts. What cannot be read is reported where it stands and never stops the rest."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, NoReturn

from ..decide.arguments import path_in_text
from ..decide.drafts import check_draft, draft_from
from ..decide.pages import READERS, Page, page_from
from ..decide.refusals import of_file
from ..errors import InputError
from ..local.files import kind_of, lines_of, open_below, open_regular, refuse_many_values, version_of
from ..model import ArticleDraft
from .extraction import PACKAGES, page_of, readable
from .gitignore import LONGEST, Rules, is_ignored, rules_above, rules_of

MAX_BYTES: Final = 10_000_000
JSON_LINES: Final = (".jsonl", ".ndjson")
SUFFIXES: Final = (*READERS, *PACKAGES, *JSON_LINES)
# In an article's metadata: the whole path of the file that it comes from.
ORIGIN: Final = "imported_from"
CHANGED: Final = "it was written to while it was read: import it again"


class BadLine(NamedTuple):
    """What could not be taken. `line_number` counts from 1; 0 means the file or folder as a whole."""

    path: Path
    line_number: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line_number}" if self.line_number else f"{self.path}"
        return f"{place}: {self.reason}"


class Found(NamedTuple):
    """A file to read. `name` is its path relative to the folder that was asked for; a document's slug. `root` is that folder, which
    no link leads out of; None for a file that was asked for itself."""

    path: Path
    name: str
    root: Path | None = None

    def opened(self) -> BinaryIO:
        """Raises OSError, also for what is no regular file and for what lies outside of `root`."""
        return open_regular(self.path) if self.root is None else open_below(self.root, self.path)


def read(
    paths: Sequence[Path], *, tenant_id: str, max_bytes: int = MAX_BYTES, encoding: str | None = None
) -> Iterator[ArticleDraft | BadLine]:
    """Drafts of everything in these files and folders, in a fixed order, one at a time.

    Folders are read with everything below them: files with the endings of `SUFFIXES` (a draft a file, of .jsonl and .ndjson a draft a line);
    hidden files and folders, what a .gitignore names, other endings, and documents whose library is not installed are passed over. The slug of
    a file is its path below the folder; its metadata are its front matter, and under `ORIGIN` its whole path. `encoding`: of all files that are
    no JSON lines; without it each is looked at. A link to what is read anyway is not followed; one
    that leads out of the folder is a BadLine. What is no regular file is a BadLine, and what is written to while it is read.
    A file named in `paths` without an ending is read as plain text. `tenant_id` is for lines that name none. A file or
    line above `max_bytes` is a BadLine; one of them at a time is in memory, so a JSON lines file may have any size.

    Raises InputError, before anything is read, for a path that does not exist or that no reader knows.
    """
    for path in paths:
        _check_path(path)
    return _read_all(paths, tenant_id, max_bytes, encoding)


def _check_path(path: Path) -> None:
    try:
        is_there = path.exists()
    except OSError as failed:
        raise of_file(failed, path, "read") from failed
    if not is_there:
        raise InputError(f"there is nothing at {path}", hint="check the path; nothing was read", field="paths")
    if path.is_dir():
        return
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder", hint="write it to a file first", field="paths")
    if path.suffix and not _is_known(path):
        hint = f"convert it to one of: {' '.join(SUFFIXES)}"
        raise InputError(f"{path.suffix} files are not read ({path})", hint=hint, field="paths")


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _is_taken(path: Path) -> bool:
    """Whether a file that nobody has named is read: a document only where its library is installed."""
    suffix = path.suffix.lower()
    return suffix in READERS or suffix in JSON_LINES or suffix in readable()


def _read_all(paths: Sequence[Path], tenant_id: str, max_bytes: int, encoding: str | None) -> Iterator[ArticleDraft | BadLine]:
    for path in paths:
        for found in _files(path):
            if isinstance(found, BadLine):
                yield found
            elif found.path.suffix.lower() in JSON_LINES:
                yield from _json_lines(found, tenant_id, max_bytes)
            else:
                yield _document(found, tenant_id, max_bytes, encoding)


def _why(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


# Folders


def _files(path: Path) -> Iterator[Found | BadLine]:
    """A folder's files by name, then its folders by name. Goes round no loop of links."""
    if not path.is_dir():
        yield Found(path, path.name)
        return
    root, seen = path.resolve(), {path.resolve()}
    waiting = [(path, rules_above(root))]
    while waiting:
        (folder, rules), below = waiting.pop(), list[Path]()
        try:
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            yield BadLine(folder, 0, _why(error))
            continue
        place = root / folder.relative_to(path)
        rules = _with_its_own(place, root, rules)
        for entry in entries:
            if rules and is_ignored(place / entry.name, rules, is_folder=entry.is_dir()):
                continue
            match _looked_at(entry, path, root):
                case Path() as inner if _is_first_visit(inner, seen):
                    below.append(inner)
                case Found() | BadLine() as found:
                    yield found
        waiting += [(inner, rules) for inner in reversed(below)]


def _with_its_own(place: Path, root: Path, rules: list[Rules]) -> list[Rules]:
    """`place`: the folder as it lies below `root`."""

    def content(path: Path) -> bytes:
        with open_below(root, path) as file:
            return file.read(LONGEST)

    own = rules_of(place, content)
    return [*rules, own] if own else rules


def _looked_at(entry: Path, path: Path, root: Path) -> Found | BadLine | Path | None:
    """A file to read, a folder to go into, what cannot be taken, or None for what is passed over."""
    try:
        if entry.is_symlink() and (beyond := _leads_beyond(entry, root)) is not None:
            return BadLine(entry, 0, beyond) if beyond and (_is_taken(entry) or entry.is_dir()) else None
        mode = entry.stat().st_mode
    except OSError as error:
        return BadLine(entry, 0, _why(error)) if _is_taken(entry) else None
    if stat.S_ISDIR(mode):
        return entry
    if not _is_taken(entry):
        return None
    if not stat.S_ISREG(mode):
        return BadLine(entry, 0, f"it is {kind_of(mode)}, not a file")
    return Found(entry, entry.relative_to(path).as_posix(), root)


def _leads_beyond(link: Path, root: Path) -> str | None:
    """Why a link is not followed: it leads out of the folder; or (empty) to what is found there under its own name. None: follow it."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        return "a link that leads to itself"
    if not target.is_relative_to(root):
        return "a link that leads out of the folder: it is not followed"
    if not os.path.lexists(target):
        return "a link that leads nowhere"
    return None if any(part.startswith(".") for part in target.relative_to(root).parts) else ""


def _is_first_visit(folder: Path, seen: set[Path]) -> bool:
    real = folder.resolve()
    is_first = real not in seen
    seen.add(real)
    return is_first


# Documents


def _document(found: Found, tenant_id: str, max_bytes: int, encoding: str | None) -> ArticleDraft | BadLine:
    path = found.path
    try:
        raw = _read(found, max_bytes)
        if len(raw) > max_bytes:
            return BadLine(path, 0, _too_large(max_bytes))
        page = _page(raw, path.suffix, encoding)
    except OSError as error:
        return BadLine(path, 0, _why(error))
    except InputError as refused:
        return BadLine(path, 0, f"{refused} ({refused.hint})")
    if not page.text.strip():
        return BadLine(path, 0, "there is no text in it")
    title = page.title or re.sub(r"[-_\s]+", " ", path.stem)
    metadata = {**page.metadata, ORIGIN: path_in_text(path.resolve())}
    return _checked(ArticleDraft(title, page.text, slug=found.name, tenant_id=tenant_id, metadata=metadata), path)


def _page(raw: bytes, suffix: str, encoding: str | None) -> Page:
    return page_of(raw, suffix) if suffix.lower() in PACKAGES else page_from(raw, suffix, encoding)


def _read(found: Found, max_bytes: int) -> bytes:
    with found.opened() as file:
        version = version_of(file)
        raw = file.read(max_bytes + 1)
        if version_of(file) != version:
            raise OSError(None, CHANGED)
        return raw


def _checked(draft: ArticleDraft, path: Path) -> ArticleDraft | BadLine:
    try:
        check_draft(draft)
    except InputError as error:
        return BadLine(path, 0, f"{error} ({error.hint})")
    return draft


def _too_large(max_bytes: int) -> str:
    return f"too large: more than {max_bytes:,} bytes"


# JSON lines


def _json_lines(found: Found, tenant_id: str, max_bytes: int) -> Iterator[ArticleDraft | BadLine]:
    path, number = found.path, 0
    try:
        with found.opened() as file:
            version = version_of(file)
            for number, line in enumerate(lines_of(file, max_bytes, version.size), start=1):
                if line is None:
                    yield BadLine(path, number, _too_large(max_bytes))
                elif line.strip():
                    yield _draft_of_line(line, tenant_id, path, number)
            if version_of(file) != version:
                yield BadLine(path, number, f"{CHANGED}; the lines before were taken")
    except OSError as error:
        yield BadLine(path, number, _why(error))


def _draft_of_line(line: bytes, tenant_id: str, path: Path, number: int) -> ArticleDraft | BadLine:
    try:
        refuse_many_values(line)
        return _addressed(draft_from(json.loads(line.decode(), parse_constant=_no_constant), tenant_id))
    except InputError as error:
        return BadLine(path, number, f"{error} ({error.hint})")
    except UnicodeDecodeError as error:
        return BadLine(path, number, f"not UTF-8: byte {error.start + 1} of the line is {line[error.start]:#04x}")
    except json.JSONDecodeError as error:
        return BadLine(path, number, f"not JSON: {error.msg} at character {error.colno}")
    except RecursionError:
        return BadLine(path, number, "not usable: nested too deep")
    except ValueError as error:
        return BadLine(path, number, f"not JSON: {error}")


def _addressed(draft: ArticleDraft) -> ArticleDraft:
    """A line that names neither id nor slug gets an id of what it says: the same line again is the same article."""
    if draft.id is not None or draft.slug is not None:
        return draft
    said = json.dumps([draft.tenant_id, draft.title, draft.content, dict(draft.metadata)], sort_keys=True)
    return replace(draft, id=f"line-{sha256(said.encode()).hexdigest()[:32]}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
