"""Unknown commands and options: the nearest known name, and the error."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import click

from .. import visible
from .voice import refused


def nearest(word: str, names: Collection[str]) -> str | None:
    """The most similar name: first one that differs by two exchanged neighbouring letters, then the one with the longest common subsequence."""
    for at in range(len(word) - 1):
        exchanged = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if exchanged in names:
            return exchanged
    return next(iter(get_close_matches(word, names, n=1)), None)


@contextmanager
def usage_errors(as_json: bool) -> Iterator[None]:
    """click's errors about invalid arguments repeat them."""
    try:
        yield
    except click.MissingParameter as missing:  # click lists its choices with tabs
        wrong = click.UsageError(visible.line(" ".join(missing.format_message().split())), missing.ctx)
        if as_json:
            refused(wrong.format_message(), f"`{_path(missing)} --help` shows what it takes", wrong.exit_code)
        raise wrong from None
    except click.ClickException as wrong:
        wrong.message = visible.line(wrong.message)  # type: ignore[misc]  # click declares it final
        if as_json:
            refused(wrong.format_message(), f"`{_path(wrong)} --help` shows what it takes", wrong.exit_code)
        raise


def _path(wrong: click.ClickException) -> str:
    context = getattr(wrong, "ctx", None)
    return context.command_path if context is not None else "embedq"
