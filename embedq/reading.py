"""Files and folders -> article drafts. What cannot be read is reported where it stands and never stops the rest."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, NoReturn

from .decide.drafts import check_draft, draft_from
from .decide.pages import READERS, page_from
from .errors import InputError
from .model import ArticleDraft

MAX_BYTES: Final = 10_000_000
JSON_LINES: Final = (".jsonl", ".ndjson")
SUFFIXES: Final = (*READERS, *JSON_LINES)


class BadLine(NamedTuple):
    """What could not be taken. `line_number` counts from 1; 0 means the file or folder as a whole."""

    path: Path
    line_number: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line_number}" if self.line_number else f"{self.path}"
        return f"{place}: {self.reason}"


class Found(NamedTuple):
    """A file to read. `name` is its path relative to the folder that was asked for; a document's slug."""

    path: Path
    name: str


def read(paths: Sequence[Path], *, tenant_id: str, max_bytes: int = MAX_BYTES) -> Iterator[ArticleDraft | BadLine]:
    """Drafts of everything in these files and folders, in a fixed order, one at a time.

    Folders are read with everything below them: .md .rst .txt .html .htm (a draft a file) and .jsonl .ndjson (a draft a
    line); hidden files and folders, and other endings, are passed over. A link to what is read anyway is not followed.
    A file named in `paths` without an ending is read as plain text. `tenant_id` is for lines that name none. A file or
    line above `max_bytes` is a BadLine; one of them at a time is in memory, so a JSON lines file may have any size.

    Raises InputError, before anything is read, for a path that does not exist or that no reader knows.
    """
    for path in paths:
        _check_path(path)
    return _read_all(paths, tenant_id, max_bytes)


def _check_path(path: Path) -> None:
    if not path.exists():
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


def _read_all(paths: Sequence[Path], tenant_id: str, max_bytes: int) -> Iterator[ArticleDraft | BadLine]:
    slugs: dict[str, Path] = {}
    for path in paths:
        for found in _files(path):
            if isinstance(found, BadLine):
                yield found
            elif found.path.suffix.lower() in JSON_LINES:
                yield from _json_lines(found.path, tenant_id, max_bytes)
            elif (first := slugs.setdefault(found.name, found.path)) != found.path:
                yield BadLine(found.path, 0, f"{first} has the slug {found.name!r} too: the second would overwrite the first")
            else:
                yield _document(found, tenant_id, max_bytes)


def _why(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


# Folders


def _files(path: Path) -> Iterator[Found | BadLine]:
    """A folder's files by name, then its folders by name. Goes round no loop of links."""
    if not path.is_dir():
        yield Found(path, path.name)
        return
    root, seen, waiting = path.resolve(), {path.resolve()}, [path]
    while waiting:
        folder = waiting.pop()
        try:
            entries = _visible(folder, root)
        except OSError as error:
            yield BadLine(folder, 0, _why(error))
            continue
        yield from (
            Found(entry, entry.relative_to(path).as_posix()) for entry in entries if _is_known(entry) and entry.is_file()
        )
        waiting += reversed([entry for entry in entries if entry.is_dir() and _is_first_visit(entry, seen)])


def _visible(folder: Path, root: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return [entry for entry in entries if not (entry.is_symlink() and _is_read_anyway(entry, root))]


def _is_read_anyway(link: Path, root: Path) -> bool:
    """Whether its target lies in the tree, where it is found under its own name, or the tree lies in its target."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        return True  # a link that leads to itself leads nowhere
    if not target.is_relative_to(root):
        return root.is_relative_to(target)
    return not any(part.startswith(".") for part in target.relative_to(root).parts)


def _is_first_visit(folder: Path, seen: set[Path]) -> bool:
    real = folder.resolve()
    is_first = real not in seen
    seen.add(real)
    return is_first


# Documents


def _document(found: Found, tenant_id: str, max_bytes: int) -> ArticleDraft | BadLine:
    path = found.path
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        return BadLine(path, 0, _why(error))
    if len(raw) > max_bytes:
        return BadLine(path, 0, _too_large(max_bytes))
    page = page_from(raw, path.suffix)
    if not page.text.strip():
        return BadLine(path, 0, "there is no text in it")
    title = page.title or re.sub(r"[-_\s]+", " ", path.stem)
    return _checked(ArticleDraft(title, page.text, slug=found.name, tenant_id=tenant_id), path)


def _checked(draft: ArticleDraft, path: Path) -> ArticleDraft | BadLine:
    try:
        check_draft(draft)
    except InputError as error:
        return BadLine(path, 0, f"{error} ({error.hint})")
    return draft


def _too_large(max_bytes: int) -> str:
    return f"too large: more than {max_bytes:,} bytes"


# JSON lines


def _json_lines(path: Path, tenant_id: str, max_bytes: int) -> Iterator[ArticleDraft | BadLine]:
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file, max_bytes), start=1):
                if line is None:
                    yield BadLine(path, number, _too_large(max_bytes))
                elif line.strip():
                    yield _draft_of_line(line, tenant_id, path, number)
    except OSError as error:
        yield BadLine(path, number, _why(error))


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Each line without its end; None for one that is too large, which is passed over piece by piece."""
    line = file.readline(max_bytes + 2).removeprefix(codecs.BOM_UTF8)
    while line:
        text = line.rstrip(b"\r\n")
        yield text if len(text) <= max_bytes else None
        while line and not line.endswith(b"\n"):
            line = file.readline(1_000_000)
        line = file.readline(max_bytes + 2)


def _draft_of_line(line: bytes, tenant_id: str, path: Path, number: int) -> ArticleDraft | BadLine:
    try:
        return draft_from(json.loads(line.decode(), parse_constant=_no_constant), tenant_id)
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


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
