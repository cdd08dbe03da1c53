"""Extracts title, text and metadata from a document: plain text, Markdown, reStructuredText, HTML, notebooks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from itertools import pairwise
from typing import Any, Final, NamedTuple

from ..errors import InputError
from .encodings import text_of
from .frontmatter import front_matter

MAX_TITLE: Final = 200


class Page(NamedTuple):
    """The extracted document. `title` has at most MAX_TITLE characters, and is empty if no line has a word. `metadata`: its front matter
    without the title."""

    title: str
    text: str
    metadata: Mapping[str, Any]


class Read(NamedTuple):
    """The result of a format's reader. Without a heading the first line with a word becomes the title."""

    heading: str | None
    text: str
    metadata: Mapping[str, Any] = {}


def page_from(raw: bytes, suffix: str, encoding: str | None = None) -> Page:
    """The page in a file whose name ends in `suffix` (".md"); an unknown suffix is read as plain text. `encoding`: as named by the caller,
    or None. Raises InputError if the file is not text or its encoding is uncertain."""
    declared = DECLARED.search(raw[:2048]) if suffix.lower() in PAGES else None
    text = text_of(raw, declared=declared[1].decode("ascii", "replace") if declared else None, named=encoding)
    found = READERS.get(suffix.lower(), plain)(text)
    return Page(title_of(found.text, found.heading), found.text, found.metadata)


def title_of(text: str, heading: str | None = None) -> str:
    """The heading, else the first line with a word; on one line, and shortened."""
    title = " ".join((heading or _first_line(text)).split())
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1].rstrip()}…"


def _first_line(text: str) -> str:
    found = re.search(r"^.*\w.*$", text, re.MULTILINE)
    return found[0] if found else ""


def plain(text: str) -> Read:
    return Read(None, text)


ATX_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+(.*)")
SETEXT_RULE: Final = re.compile(r" {0,3}(=+|-{2,})\s*")
RST_RULE: Final = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}\s*")


COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
HTML_HEADING: Final = re.compile(r"<h[1-6](?=[\s>])[^>]*>(.*?)</h[1-6]\s*>", re.DOTALL | re.IGNORECASE)
TAG: Final = re.compile(r"<[^>]*>")
# Embedded data that is not text: images and fonts as data URLs, scripts, styles.
INLINE_DATA: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.-]+)*;base64,[A-Za-z0-9+/=%\s]*+")
PROGRAM: Final = re.compile(r"<(script|style)(?=[\s/>]).*?(?:</\1[^>]*>|\Z)", re.DOTALL | re.IGNORECASE)
MDX_STATEMENT: Final = re.compile(r"^(?:import|export)\s[^\n]*\n", re.MULTILINE)
FENCE: Final = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)


def markdown(text: str) -> Read:
    """The heading is the title of the front matter, else the first heading outside code, of Markdown or HTML, else the first line with a word."""
    head = front_matter(text)
    rest = _without_data(head.rest)
    visible = COMMENT.sub("", rest)
    return Read(head.title or _html_heading(visible) or _markdown_heading(visible) or _first_line(visible), rest, head.data)


def mdx(text: str) -> Read:
    """Markdown with JavaScript statements, which are removed."""
    head = front_matter(text)
    found = markdown(_outside_code(head.rest, lambda part: MDX_STATEMENT.sub("", part)))
    return Read(head.title or found.heading, found.text, head.data)


def _without_data(text: str) -> str:
    without = INLINE_DATA.sub("", text) if "base64," in text else text
    return _outside_code(without, lambda part: PROGRAM.sub("", part)) if "<s" in without.lower() else without


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    return "".join(change(part) if is_text else part for part, is_text in _parts(text))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in parts: (part, whether it is outside a fenced code block)."""
    end = 0
    for block in FENCE.finditer(text):
        yield text[end : block.start()], True
        yield block[0], False
        end = block.end()
    yield text[end:], True


def _html_heading(text: str) -> str | None:
    """A heading in HTML before any Markdown: many readmes begin with one, to centre it."""
    found = HTML_HEADING.match(text.lstrip())
    heading = " ".join(unescape(TAG.sub(" ", found[1])).split()) if found else ""
    return heading or None


def _markdown_heading(text: str) -> str | None:
    in_code, before = False, ""
    for line in text.split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            in_code = not in_code
        elif not in_code and (heading := _heading_in(line, before)):
            return heading
        before = line
    return None


def _heading_in(line: str, before: str) -> str:
    """The heading that this line is (`# Tea`) or underlines (`===`); empty when neither."""
    if found := ATX_HEADING.fullmatch(line):
        return found[1].rstrip(" \t#").strip("*_` ")
    return before.strip("*_` ") if SETEXT_RULE.fullmatch(line) else ""


def restructured(text: str) -> Read:
    """The heading is the first line that is underlined as long as it is."""
    headings = (line for line, under in pairwise(text.split("\n")) if _is_underlined(line, under))
    return Read(next(headings, None), text)


def _is_underlined(line: str, under: str) -> bool:
    is_text = bool(line.strip()) and not line.startswith((" ", "..")) and not RST_RULE.fullmatch(line)
    return is_text and bool(RST_RULE.fullmatch(under)) and len(under.rstrip()) >= len(line.rstrip())


DECLARED: Final = re.compile(rb"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
SILENT: Final = frozenset(("noscript", "template", "svg"))
HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")
SECTIONS: Final = ("address", "article", "aside", "body", "details", "figure", "footer", "header", "main", "nav", "section")
PARTS: Final = ("blockquote", "dd", "div", "dl", "dt", "figcaption", "form", "hr", "li", "ol", "option", "p", "pre", "summary")
BLOCKS: Final = frozenset((*HEADINGS, *SECTIONS, *PARTS, "table", "tr", "ul"))
AROUND: Final = {"br": "\n", "td": " ", "th": " "}

# The standard library's HTMLParser takes quadratic time for an unclosed tag or comment that is repeated: a page of 400 kB
# kept it busy for a minute. In this pattern an unclosed tag or comment extends to the end, so every alternative matches where it begins.
MARKUP: Final = re.compile(
    r"""
      <!--.*?(?:-->|\Z)
    | <(?P<code>script|style)(?=[\s/>]).*?(?:</(?P=code)[^>]*+>?|\Z)
    | <[!?][^>]*+>?
    | <(?P<end>/?)(?P<tag>[a-z][^\s/>]*+)(?:[^>=]++|=\s*+(?:"[^"]*+"?|'[^']*+'?)?)*+>?
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def html(source: str) -> Read:
    """The text in paragraphs; scripts and styles are left out. The heading is <title>, else the first of <h1> to <h6>."""
    page, position = _HtmlText(), 0
    for markup in MARKUP.finditer(source):
        page.read(source[position : markup.start()])
        if markup["tag"]:
            page.turn(markup["tag"].lower(), is_start=not markup["end"])
        position = markup.end()
    page.read(source[position:])
    return Read("".join(page.title).strip() or "".join(page.heading).strip() or None, page.text())


class _HtmlText:
    """Collects the visible text of a page, and its title and first heading."""

    def __init__(self) -> None:
        self.title: list[str] = []
        self.heading: list[str] = []
        self._said: list[str] = []
        self._silent = 0
        self._inside = {"title": False, "pre": False, "heading": False}
        self._has_heading = False

    def text(self) -> str:
        without_trailing_spaces = re.sub(r"[ \t]++\n", "\n", "".join(self._said))
        return re.sub(r"\n{3,}", "\n\n", without_trailing_spaces).strip()

    def turn(self, tag: str, is_start: bool) -> None:
        """Handle an opening or closing tag."""
        if tag in SILENT:
            self._silent = max(0, self._silent + (1 if is_start else -1))
        name = "heading" if tag in HEADINGS else tag
        if name in self._inside and not self._silent:
            self._inside[name] = is_start
        self._has_heading |= name == "heading" and not is_start and any(part.strip() for part in self.heading)
        self._say("\n\n" if tag in BLOCKS else AROUND.get(tag, "") if is_start else "")

    def read(self, source: str) -> None:
        """Handle the text between two tags."""
        if self._silent or not source:
            return
        data = unescape(source)
        if self._inside["title"]:
            self.title.append(data)
            return
        if self._inside["heading"] and not self._has_heading:
            self.heading.append(data)
        self._say(data if self._inside["pre"] else re.sub(r"\s+", " ", data))

    def _say(self, text: str) -> None:
        """Append text; outside <pre>, white space is collapsed."""
        is_at_space = not self._said or self._said[-1].endswith(("\n", " "))
        if not self._inside["pre"] and is_at_space:
            text = text.removeprefix(" ")
        if text:
            self._said.append(text)


def notebook(source: str) -> Read:
    """The text and code cells without their outputs. Raises InputError if the file is not a notebook."""
    try:
        cells = json.loads(source)["cells"]
        parts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError("it is no notebook", hint="save it as version 4 of the format", field="paths") from None
    shown = [f"```\n{text.rstrip()}\n```" if kind == "code" else text.strip() for kind, text in parts if text.strip()]
    return markdown("\n\n".join(shown))


PAGES: Final = (".html", ".htm", ".xhtml")
READERS: Final[dict[str, Callable[[str], Read]]] = {
    ".md": markdown,
    ".markdown": markdown,
    ".mdx": mdx,
    ".rst": restructured,
    ".txt": plain,
    ".html": html,
    ".htm": html,
    ".xhtml": html,
    ".ipynb": notebook,
}
