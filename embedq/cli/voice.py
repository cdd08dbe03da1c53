"""Output of all commands: a table for people, --json for programs, errors on stderr with the next step, exit codes.

Exit codes: 0 done, 1 failed, 2 misused, 3 checked and not well; `operations.crash` has those of unexpected errors.
"""

from __future__ import annotations

import functools
import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

import click

from .. import visible
from ..addresses import hide
from ..decide.arguments import checked
from ..errors import EmbedqError, InputError
from ..operations.crash import answering, complaint

DONE, FAILED, MISUSED, NOT_WELL = 0, 1, 2, 3


class Text(str):
    """A text of several lines, as a part of an answer: any other string is one line."""


@dataclass(slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str | None = None


@dataclass(slots=True)
class Answer:
    """A command's answer: `data` for programs, `said` (lines and tables, in order) for people."""

    data: Any
    said: list[str | Table] = field(default_factory=list)
    exit_code: int = DONE


def command(
    *, changes: bool = False, destroys: bool = False, why: Sequence[str] = ("--reason",), **attributes: Any
) -> Callable[[Callable[..., Answer | None]], click.Command]:
    """A click command with the options and the output of all commands. Every one has --json; one that changes something also --reason and --yes; one that
    destroys also --dry-run, and its function asks by `confirm`. `why`: the names of the option for the reason."""

    def decorate(function: Callable[..., Answer | None]) -> click.Command:
        @functools.wraps(function)
        def run(*, as_json: bool, **given: Any) -> None:
            speak(lambda: function(**{name: _checked(name, value) for name, value in given.items()}), as_json=as_json)

        made = run
        if destroys:
            made = click.option("--dry-run", is_flag=True, help="Say what would be done, with real counts; do nothing.")(made)
        if changes or destroys:
            made = click.option("--yes", "--confirm", "yes", is_flag=True, help="Do not ask.")(made)
            made = click.option(*why, "reason", default="", help="Why; kept in the audit log.")(made)
        made = click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")(made)
        built: click.Command = click.command(**attributes)(made)
        return built

    return decorate


def speak(act: Callable[[], Answer | None], *, as_json: bool) -> None:
    """Run the command, print its answer or error, and exit with its code."""
    try:
        answer = act()
    except EmbedqError as error:
        if as_json:
            refused(error.message, error.hint, error.exit_code, error.lines)
        complain(error)
        sys.exit(error.exit_code)
    if answer is None:
        return
    with answering():
        _answer(answer, as_json=as_json)
    sys.exit(answer.exit_code)


def _answer(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        click.echo(visible.in_json(json.dumps(answer.data, default=_plain, indent=2, ensure_ascii=not _writes_unicode())))
        return
    for part in answer.said:
        _say(part)


def _writes_unicode() -> bool:
    return str(getattr(sys.stdout, "encoding", "utf-8")).lower().startswith("utf")


def _checked(name: str, value: Any) -> Any:
    """Raises InputError for text that is not valid UTF-8, and for a number that is too large."""
    try:
        return checked(value)
    except ValueError as wrong:
        raise InputError(f"{name} {wrong}", hint="give text as UTF-8, and smaller numbers", field=name) from None


def complain(error: EmbedqError) -> None:
    for line in complaint(error):
        click.echo(line, err=True)


def refused(message: str, hint: str, exit_code: int, lines: Iterable[str] = ()) -> None:
    """An error as JSON on standard output; its text also goes to standard error."""
    told = {"message": hide(message), "hint": hide(hint), "lines": [hide(line) for line in lines], "exit_code": exit_code}
    with suppress(OSError, ValueError):
        click.echo(visible.in_json(json.dumps({"error": told}, indent=2, ensure_ascii=not _writes_unicode())))


def tell(line: str) -> None:
    """One line on stderr: progress and errors. Secrets are hidden before escaping, which would change them."""
    click.echo(visible.line(hide(line)), err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before a destructive command. Without a terminal and without --yes it refuses."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question} There is no terminal to ask on.", hint="add --yes, or --dry-run to see what would happen")
    if not click.confirm(visible.line(question), default=False, err=True):
        raise InputError("nothing was done", hint="answer y, or add --yes, to go on")


def who() -> str:
    """The operator, as the audit log names them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _say(part: str | Table) -> None:
    if isinstance(part, str):
        click.echo(words(part))
        return
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    console = Console(width=wide, highlight=False, markup=False, emoji=False)
    if _fits(part, console.width):
        console.print(drawn(part))
    else:
        click.echo("\n".join(_one_below_the_other(part)))


def words(part: str) -> str:
    """The printed form of a line or text of an answer."""
    return visible.block(part) if isinstance(part, Text) else visible.line(part)


# Columns whose values users copy: printed unchanged, and never wrapped.
KEYS = frozenset(
    {
        "id",
        "task",
        "task_id",
        "article",
        "article_id",
        "model_id",
        "version",
        "run",
        "pid",
        "revision",
        "where",
        "for example",
        "ID",
        "message id",
    }
)
LEAST = 8


def _fits(part: Table, width: int) -> bool:
    """Whether all keys fit on one line each, with some room for every other column."""
    needed = 0
    for at, column in enumerate(part.columns):
        longest = max((len(_cell(row[at], column)) for row in part.rows), default=0)
        needed += 2 + (max(longest, len(column)) if column in KEYS else min(LEAST, max(longest, len(column))))
    return needed <= width or not any(column in KEYS for column in part.columns)


def _one_below_the_other(part: Table) -> list[str]:
    """Each row as lines of `column: value`."""
    titled = [visible.line(part.title)] if part.title else []
    rows = [
        "\n".join(f"{visible.line(c)}: {_cell(value, c)}" for c, value in zip(part.columns, row, strict=True)) + "\n"
        for row in part.rows
    ]
    return [*titled, *rows]


def drawn(part: Table) -> Any:
    """The table as rich draws it."""
    from rich import box
    from rich.table import Table as Drawn

    made = Drawn(title=part.title and visible.line(part.title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for at, column in enumerate(part.columns):
        least = max((len(_cell(row[at], column)) for row in part.rows), default=0) if column in KEYS else None
        made.add_column(visible.line(column), overflow="fold", justify="left", min_width=least, no_wrap=column in KEYS)
    for row in part.rows:
        made.add_row(*(_cell(value, column or str(row[0])) for value, column in zip(row, part.columns, strict=True)))
    return made


def of_all(shown: int, total: int) -> list[str | Table]:
    """A line that says how many rows a list does not show."""
    return [f"{shown:,} of {total:,}; --limit N shows more"] if total > shown else []


def _cell(value: Any, column: str = "") -> str:
    if column in KEYS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case _:
            return visible.line(str(value))


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case Mapping():
            return dict(value)
        case set() | frozenset():
            return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def lasting(seconds: float | None) -> str:
    """A duration with one unit, rounded."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
