"""Pages from templates: every value is escaped for HTML, and invisible characters are shown as escapes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from .. import visible
from .snapshot import ceiling, line, moment, span

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
SECTIONS = (
    ("/", "Overview"),
    ("/tasks", "Tasks"),
    ("/errors", "Errors"),
    ("/workers", "Workers"),
    ("/queues", "Queues"),
    ("/models", "Models"),
    ("/sources", "Sources"),
    ("/procedures", "Procedures"),
    ("/audit", "Audit"),
)
PROGRAMS = ("embedq ", "celery ")
THEMES = ("dark", "light")
THEME = "embedq_theme"


def _seen(value: Any) -> Any:
    """Control and bidirectional characters in text as escapes (docs/why/visible.rst). A field's value is escaped with `|e`, and stays as it is."""
    return visible.line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def block(text: str) -> Markup:
    """A text of several lines, everything else in it escaped."""
    return Markup.escape(visible.block(text))


def step(text: str) -> Markup:
    """What to do next, with its commands as code: between backticks, or all of a text that is a command."""
    parts = visible.line(text).split("`")
    if len(parts) == 1 and text.startswith(PROGRAMS):
        parts = ["", *parts]
    return Markup().join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def segment(text: object) -> str:
    """One part of a path."""
    return quote(str(text), safe="")


def query(fields: Mapping[str, object]) -> str:
    return urlencode(dict(fields))


def number(value: float | None) -> str:
    """A number of a chart, abbreviated."""
    return "–" if value is None else f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2g}"


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


pages = jinja2.Environment(
    loader=jinja2.PackageLoader("embedq.http", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_seen
)
pages.filters.update(
    span=span,
    moment=moment,
    line=line,
    ceiling=ceiling,
    block=block,
    segment=segment,
    query=query,
    number=number,
    json=as_json,
    quoted=shlex.quote,
    step=step,
)


def page(name: str, status: int, **facts: Any) -> Response:
    return HTMLResponse(pages.get_template(name).render(**facts), status, {"Content-Security-Policy": POLICY})


def theme_of(request: Request) -> str:
    """The theme that the user has chosen; empty: the system's."""
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in THEMES else ""


@cache
def file(package: str, folder: str, name: str) -> bytes:
    """Read once: each answer sends the same bytes, however many clients are slow to take them."""
    return files(package).joinpath(folder, name).read_bytes()
