"""The filter of the page of tasks: from the query in the URL to the tasks that match, and to the equivalent command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from ...decide.spans import seconds_of
from ...errors import InputError
from ...model import OPEN, Priority, TaskStatus
from ...store import Store
from ...store.bulk import RETRIABLE, Picked
from ...store.console import Cursor, Order

# By action: the statuses it applies to when the filter names none, and those it may be applied to.
OF_ACT: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "retry": ((TaskStatus.FAILED,), RETRIABLE),
    "cancel": (OPEN, OPEN),
    "discard": ((TaskStatus.FAILED,), (TaskStatus.FAILED,)),
}
COMMANDS = {"retry": "embedq retry", "cancel": "embedq cancel", "discard": "embedq dead-letter discard"}
OPTIONS = {
    "priority": "--priority",
    "tenant": "--tenant",
    "source": "--made-for",
    "article": "--article",
    "error": "--error",
    "newer": "--newer-than",
    "older": "--older-than",
    "text": "--message-like",
}
LONGEST = 500


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """The fields as in the URL; an empty one does not filter. `task`: one task's number."""

    status: str = ""
    priority: str = ""
    tenant: str = ""
    source: str = ""
    article: str = ""
    error: str = ""
    newer: str = ""
    older: str = ""
    text: str = ""
    task: str = ""
    sort: str = Order.NEWEST.value

    @property
    def given(self) -> dict[str, str]:
        """The fields that differ from the default filter."""
        return {name: value for name, value in asdict(self).items() if value and (name, value) != ("sort", Order.NEWEST.value)}

    @property
    def narrows(self) -> bool:
        return bool(self.given.keys() - {"sort"})

    def query(self, **more: str) -> str:
        return urlencode(self.given | more)

    def picked(self, store: Store) -> Picked:
        return Picked(
            statuses=(self.status,) if self.status else tuple(TaskStatus),
            ids=[int(self.task)] if self.task else None,
            priorities=[self.priority] if self.priority else None,
            tenants=[self.tenant] if self.tenant else None,
            task_reason=self.source or None,
            error_class=self.error or None,
            message_like=f"%{self.text}%" if self.text else None,
            articles=store.console.articles_named(self.article) if self.article else None,
            older_s=seconds_of(self.older, "older") if self.older else None,
            newer_s=seconds_of(self.newer, "newer") if self.newer else None,
        )

    def picked_for(self, act: str, store: Store) -> Picked:
        """The tasks that an action applies to. Raises InputError for a status that it cannot be applied to."""
        usual, possible = OF_ACT[act]
        if self.status and self.status not in possible:
            raise InputError(
                f"{self.status} tasks cannot be {done(act)}", hint=f"choose one of: {', '.join(possible)}", field="status"
            )
        named = possible if self.task else usual
        statuses = (self.status,) if self.status else named
        return replace(self.picked(store), statuses=statuses, newest=act == "retry")

    def command(self, act: str) -> str:
        """The equivalent command line."""
        words = [COMMANDS[act], *self._words(act)]
        return " ".join([*words, "--reason", '"…"'])

    def _words(self, act: str) -> Iterator[str]:
        if self.task:
            yield self.task
            return
        if not self.narrows:
            yield "--all"
        if self.status and act != "discard":
            yield f"--status {self.status}"
        elif self.status and self.given.keys() == {"status"}:
            yield "--all"
        for name, option in OPTIONS.items():
            if value := self.given.get(name):
                yield f"{option} {shlex.quote(value)}"


def done(act: str) -> str:
    return {"retry": "tried again", "cancel": "cancelled", "discard": "discarded"}[act]


def filter_of(given: Mapping[str, str]) -> TaskFilter:
    """From the fields of a query or a form. Raises InputError for a value that no task can have."""
    known = {name: given.get(name, "").strip() for name in TaskFilter.__dataclass_fields__}
    for name, value in known.items():
        _check(name, value)
    wanted = TaskFilter(**{name: value for name, value in known.items() if value})
    _check_choices(wanted)
    return wanted


def _check(name: str, value: str) -> None:
    if len(value) > LONGEST or "\0" in value:
        raise InputError(f"{name} is no text to look for", hint=f"at most {LONGEST} characters, without NUL", field=name)


def _check_choices(wanted: TaskFilter) -> None:
    choices: dict[str, tuple[str, ...]] = {"status": tuple(TaskStatus), "priority": tuple(Priority), "sort": tuple(Order)}
    for name, possible in choices.items():
        value = getattr(wanted, name)
        if value and value not in possible:
            raise InputError(f"{value[:40]!r} is no {name}", hint=f"choose one of: {', '.join(possible)}", field=name)
    for name in ("newer", "older"):
        if value := getattr(wanted, name):
            seconds_of(value, name)
    if wanted.task and task_id(wanted.task) is None:
        raise InputError(f"{wanted.task[:40]!r} is no task's number", hint="a task has a number", field="task")


def task_id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def cursor_of(text: str) -> Cursor | None:
    """From the address: `1207`, or `1207@2026-01-31T10:20:30.123456+00:00` where the order is by end. Raises InputError."""
    if not text:
        return None
    number, _, at = text.partition("@")
    try:
        known = task_id(number)
        if known is None:
            raise ValueError(number)
        return Cursor(known, datetime.fromisoformat(at) if at else None)
    except ValueError:
        raise InputError(
            "the address does not say where the page begins", hint="go back to the first page", field="after"
        ) from None


def cursor_text(cursor: Cursor) -> str:
    return f"{cursor.id}@{cursor.at.isoformat()}" if cursor.at else str(cursor.id)


def shown_choices() -> dict[str, Any]:
    return {"statuses": tuple(TaskStatus), "priorities": tuple(Priority), "orders": tuple(Order)}
