"""The options that say which tasks a command means, the same for every command on many tasks and for the console's page of tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from ..decide.spans import seconds_of
from ..store import Store
from ..store.bulk import Picked
from .fences import PRIORITIES, TENANTS

CLASS = click.option("--error", "error_class", metavar="CLASS", help="Only tasks whose last error is of this class.")
MESSAGE = click.option(
    "--message-like", metavar="TEXT", help="Only tasks whose last error has this in it (% stands for anything)."
)
ARTICLE = click.option(
    "--article", "articles", multiple=True, metavar="ARTICLE", help="Only tasks of this article, by id or slug."
)
MADE_FOR = click.option(
    "--made-for", metavar="WHY", help="Only tasks made for this reason: create, update, import, reconcile, …"
)
OLDER = click.option("--older-than", metavar="AGE", help="Only tasks made longer ago than 90s, 30m, 6h or 7d.")
NEWER = click.option("--newer-than", metavar="AGE", help="Only tasks made within 90s, 30m, 6h or 7d.")


def narrowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; their values come as `narrow`."""
    names = ("error_class", "message_like", "articles", "made_for", "older_than", "newer_than", "priorities", "tenants")

    @functools.wraps(function)
    def with_narrow(**given: Any) -> Any:
        return function(narrow={name: given.pop(name) for name in names}, **given)

    made: Callable[..., Any] = with_narrow
    for option in (NEWER, OLDER, MADE_FOR, ARTICLE, TENANTS, PRIORITIES, MESSAGE, CLASS):
        made = option(made)
    return made


def narrows(narrow: Mapping[str, Any]) -> bool:
    return any(narrow.values())


def picked_by(store: Store, picked: Picked, narrow: Mapping[str, Any]) -> Picked:
    """The given tasks, narrowed by these options. Raises InputError."""
    return replace(
        picked,
        error_class=narrow["error_class"],
        message_like=like(narrow["message_like"]),
        articles=_articles(store, narrow["articles"]),
        task_reason=narrow["made_for"],
        priorities=narrow["priorities"] or None,
        tenants=narrow["tenants"] or None,
        older_s=_seconds(narrow["older_than"], "older-than"),
        newer_s=_seconds(narrow["newer_than"], "newer-than"),
    )


def like(text: str | None) -> str | None:
    return f"%{text}%" if text else None


def _articles(store: Store, keys: Sequence[str]) -> list[str] | None:
    return [found for key in keys for found in store.console.articles_named(key)] or None


def _seconds(age: str | None, field: str) -> float | None:
    return seconds_of(age, field) if age else None
