"""One voice for all commands: a table for people, --json for programs, errors on stderr with the next step, exit codes.

Exit codes: 0 done, 1 failed, 2 misused, 3 checked and not well.
"""

from __future__ import annotations

import functools
import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

import click

from ..errors import EmbedqError, InputError

DONE, FAILED, MISUSED, NOT_WELL = 0, 1, 2, 3


@dataclass(slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str | None = None


@dataclass(slots=True)
class Answer:
    """What a command has to say: `data` for programs, `said` (lines and tables, in order) for people."""

    data: Any
    said: list[str | Table] = field(default_factory=list)
    exit_code: int = DONE


def command(
    *, changes: bool = False, destroys: bool = False, why: str = "--reason", **attributes: Any
) -> Callable[[Callable[..., Answer | None]], click.Command]:
    """A click command in embedq's voice. Every one has --json; one that changes something also --reason and --yes; one that
    destroys also --dry-run, and its function asks by `confirm`. `why`: the option for the reason, where --reason means something else."""

    def decorate(function: Callable[..., Answer | None]) -> click.Command:
        @functools.wraps(function)
        def run(*, as_json: bool, **given: Any) -> None:
            speak(lambda: function(**given), as_json=as_json)

        made = run
        if destroys:
            made = click.option("--dry-run", is_flag=True, help="Say what would be done, with real counts; do nothing.")(made)
        if changes or destroys:
            made = click.option("--yes", is_flag=True, help="Do not ask.")(made)
            made = click.option(why, "reason", default="", help="Why; kept in the audit log.")(made)
        made = click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")(made)
        built: click.Command = click.command(**attributes)(made)
        return built

    return decorate


def speak(act: Callable[[], Answer | None], *, as_json: bool) -> None:
    """Do it, say how it went, and exit with the code that says the same."""
    try:
        answer = act()
    except EmbedqError as error:
        complain(error)
        sys.exit(error.exit_code)
    if answer is None:
        return
    if as_json:
        click.echo(json.dumps(answer.data, default=_plain, indent=2, ensure_ascii=False))
    else:
        for part in answer.said:
            _say(part)
    sys.exit(answer.exit_code)


def complain(error: EmbedqError) -> None:
    click.echo(f"embedq: {error}\n  next: {error.hint}", err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed. Without a terminal and without --yes it refuses."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question} There is no terminal to ask on.", hint="add --yes, or --dry-run to see what would happen")
    if not click.confirm(question, default=False, err=True):
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
        click.echo(part)
        return
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 160
    Console(width=wide, highlight=False, markup=False, emoji=False).print(drawn(part))


def drawn(part: Table) -> Any:
    """The table as rich draws it."""
    from rich import box
    from rich.table import Table as Drawn

    made = Drawn(title=part.title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in part.columns:
        made.add_column(column, overflow="fold", justify="left")
    for row in part.rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def _cell(value: Any) -> str:
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
            return str(value)


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
    """A span of time as people say it."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
