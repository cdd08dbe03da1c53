"""The bytes of a document -> its title and its text. Plain text, Markdown, reStructuredText, HTML."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise
from typing import Final, NamedTuple

MAX_TITLE: Final = 200


class Page(NamedTuple):
    """What a document says. `title` has at most MAX_TITLE characters, and is empty when no line has a word in it."""

    title: str
    text: str


def page_from(raw: bytes, suffix: str) -> Page:
    """The page in a file whose name ends in `suffix` (".md"); an ending that no reader knows is read as plain text."""
    heading, text = READERS.get(suffix.lower(), plain)(raw)
    return Page(title_of(text, heading), text)


def title_of(text: str, heading: str | None = None) -> str:
    """The heading, or else the first line with a word in it; on one line, and shortened."""
    title = " ".join((heading or _first_line(text)).split())
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1].rstrip()}…"


def _first_line(text: str) -> str:
    found = re.search(r"^.*\w.*$", text, re.MULTILINE)
    return found[0] if found else ""


def decoded(raw: bytes, declared: str = "latin-1") -> str:
    """UTF-8 (or UTF-16 by its mark); what is neither is taken for what it declares, or for Latin-1, which any bytes are."""
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    by_mark = [encoding for mark, encoding in marks.items() if raw.startswith(mark)]
    for encoding in (*by_mark, "utf-8", declared):
        try:
            return raw.decode(encoding).replace("\r\n", "\n")
        except (LookupError, ValueError):
            continue
    return raw.decode("latin-1").replace("\r\n", "\n")


def plain(raw: bytes) -> tuple[str | None, str]:
    return None, decoded(raw)


FRONT_MATTER: Final = re.compile(r"---\n(.*?\n)?---\n", re.DOTALL)
ATX_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+(.*)")
SETEXT_RULE: Final = re.compile(r" {0,3}(=+|-{2,})\s*")
RST_RULE: Final = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}\s*")


def markdown(raw: bytes) -> tuple[str | None, str]:
    """The heading is the title of the front matter, else the first heading outside code, else the first line after both."""
    text = decoded(raw)
    front = FRONT_MATTER.match(text)
    named = re.search(r"^title:[ \t]*(.+)$", front[0], re.MULTILINE) if front else None
    rest = text[front.end() :] if front else text
    return (named[1].strip(" \"'") if named else _markdown_heading(rest) or _first_line(rest)), text


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


def restructured(raw: bytes) -> tuple[str | None, str]:
    """The heading is the first line that is underlined as long as it is."""
    text = decoded(raw)
    headings = (line for line, under in pairwise(text.split("\n")) if _is_underlined(line, under))
    return next(headings, None), text


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
# kept it busy for a minute. Here whatever is unclosed reaches to the end, so every alternative matches where it begins.
MARKUP: Final = re.compile(
    r"""
      <!--.*?(?:-->|\Z)
    | <(?P<code>script|style)(?=[\s/>]).*?(?:</(?P=code)[^>]*+>?|\Z)
    | <[!?][^>]*+>?
    | <(?P<end>/?)(?P<tag>[a-z][^\s/>]*+)(?:[^>=]++|=\s*+(?:"[^"]*+"?|'[^']*+'?)?)*+>?
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def html(raw: bytes) -> tuple[str | None, str]:
    """The text in paragraphs; scripts and styles are left out. The heading is <title>, else the first of <h1> to <h6>."""
    declared = DECLARED.search(raw[:2048])
    source = decoded(raw, declared[1].decode("ascii", "replace") if declared else "latin-1")
    page, position = _HtmlText(), 0
    for markup in MARKUP.finditer(source):
        page.read(source[position : markup.start()])
        if markup["tag"]:
            page.turn(markup["tag"].lower(), is_start=not markup["end"])
        position = markup.end()
    page.read(source[position:])
    return "".join(page.title).strip() or "".join(page.heading).strip() or None, page.text()


class _HtmlText:
    """Collects what a reader of the page would see, and what names it."""

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
        """A tag begins or ends."""
        if tag in SILENT:
            self._silent = max(0, self._silent + (1 if is_start else -1))
        name = "heading" if tag in HEADINGS else tag
        if name in self._inside and not self._silent:
            self._inside[name] = is_start
        self._has_heading |= name == "heading" and not is_start and any(part.strip() for part in self.heading)
        self._say("\n\n" if tag in BLOCKS else AROUND.get(tag, "") if is_start else "")

    def read(self, source: str) -> None:
        """What stands between two tags."""
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
        """Outside <pre>, a space at the start of a line or after another space says nothing."""
        is_at_space = not self._said or self._said[-1].endswith(("\n", " "))
        if not self._inside["pre"] and is_at_space:
            text = text.removeprefix(" ")
        if text:
            self._said.append(text)


READERS: Final[dict[str, Callable[[bytes], tuple[str | None, str]]]] = {
    ".md": markdown,
    ".rst": restructured,
    ".txt": plain,
    ".html": html,
    ".htm": html,
}
