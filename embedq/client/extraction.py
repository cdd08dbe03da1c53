"""PDF, DOCX and EPUB -> their text. The first two by libraries of the extra `embedq[documents]`; an EPUB is HTML in a ZIP archive.

What comes out is bounded: a small archive may hold terabytes, a small PDF millions of pages.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Final
from xml.etree import ElementTree

from ..decide.encodings import text_of
from ..decide.pages import Page, html, title_of
from ..errors import InputError

MOST_UNPACKED: Final = 100_000_000
MOST_CHARACTERS: Final = 10_000_000
MOST_PAGES: Final = 5_000
EXTRA: Final = "pip install 'embedq[documents]'"


def page_of(raw: bytes, suffix: str) -> Page:
    """The text of a document. Raises InputError for one that is broken, locked or too large, or whose library is missing."""
    suffix = suffix.lower()
    package = PACKAGES[suffix]
    if package and find_spec(package) is None:
        raise InputError(f"{suffix} files need the package {package}", hint=EXTRA, field="paths")
    try:
        title, text = EXTRACTORS[suffix](io.BytesIO(raw))
    except InputError:
        raise
    except Exception as wrong:  # a broken document raises whatever its library did not expect
        raise InputError(
            f"it is broken, or no {suffix} file: {type(wrong).__name__}",
            hint="open and save it anew, or export it as text",
            field="paths",
        ) from None
    return Page(title_of(text, title or None), text, {})


def readable() -> tuple[str, ...]:
    """The endings whose libraries are installed."""
    return tuple(suffix for suffix, package in PACKAGES.items() if not package or find_spec(package) is not None)


def _joined(parts: Iterator[str]) -> str:
    kept, size = [], 0
    for part in parts:
        size += len(part)
        if size > MOST_CHARACTERS:
            raise InputError(f"it has more than {MOST_CHARACTERS:,} characters", hint="split it", field="paths")
        kept.append(part.strip())
    return "\n\n".join(filter(None, kept)).replace("\0", " ")


def _pdf(file: io.BytesIO) -> tuple[str, str]:
    from pypdf import PdfReader

    reader = PdfReader(file)
    if reader.is_encrypted and not reader.decrypt(""):
        raise InputError("it is locked with a password", hint="save it without one", field="paths")
    if len(reader.pages) > MOST_PAGES:
        raise InputError(f"it has more than {MOST_PAGES:,} pages", hint="split it", field="paths")
    text = _joined(page.extract_text() or "" for page in reader.pages)
    return str((reader.metadata and reader.metadata.title) or "").strip(), text


def _docx(file: io.BytesIO) -> tuple[str, str]:
    import docx

    _refuse_bombs(zipfile.ZipFile(file))
    document = docx.Document(file)
    return document.core_properties.title.strip(), _joined(map(_block_of_docx, document.iter_inner_content()))


def _block_of_docx(block: Any) -> str:
    if hasattr(block, "rows"):
        return "\n".join(" | ".join(cell.text.strip() for cell in row.cells) for row in block.rows)
    level = (
        block.style.name.removeprefix("Heading ") if block.style is not None and block.style.name.startswith("Heading ") else ""
    )
    return f"{'#' * int(level)} {block.text}" if level.isdecimal() and block.text.strip() else str(block.text)


_CONTAINER: Final = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
_OPF, _DC = "{http://www.idpf.org/2007/opf}", "{http://purl.org/dc/elements/1.1/}"


def _epub(file: io.BytesIO) -> tuple[str, str]:
    archive = zipfile.ZipFile(file)
    _refuse_bombs(archive)
    root = _xml(archive.read("META-INF/container.xml")).find(f".//{_CONTAINER}")
    path = "" if root is None else root.get("full-path", "")
    package = _xml(archive.read(path))
    files = {item.get("id"): item.get("href", "") for item in package.iter(f"{_OPF}item")}
    order = [files[item.get("idref")] for item in package.iter(f"{_OPF}itemref") if item.get("idref") in files]
    parts = (html(text_of(archive.read(posixpath.join(posixpath.dirname(path), name)))).text for name in order)
    return (package.findtext(f".//{_DC}title") or "").strip(), _joined(parts)


def _xml(raw: bytes) -> ElementTree.Element:
    """Without entities of its own: a few lines of them stand for gigabytes."""
    if b"<!ENTITY" in raw or b"<!DOCTYPE" in raw:
        raise InputError("it has a DOCTYPE, which such a file needs not", hint="export it as text", field="paths")
    return ElementTree.fromstring(raw)


def _refuse_bombs(archive: zipfile.ZipFile) -> None:
    if sum(entry.file_size for entry in archive.infolist()) > MOST_UNPACKED:
        raise InputError(
            f"it holds more than {MOST_UNPACKED:,} bytes", hint="split it, or take the pictures out", field="paths"
        )


PACKAGES: Final = {".pdf": "pypdf", ".docx": "docx", ".epub": ""}
EXTRACTORS: Final[dict[str, Callable[[io.BytesIO], tuple[str, str]]]] = {".pdf": _pdf, ".docx": _docx, ".epub": _epub}
