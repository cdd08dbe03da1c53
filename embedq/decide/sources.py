"""Sources: the state of a source, and the command that repairs it. Pure functions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ..model import Source

# SQLSTATEs at the end of a reason that mean a wrong definition (a missing column, table or function), not a temporary error.
OF_THE_DEFINITION = re.compile(r"\((42|0A)[0-9A-Z]{3}\)$")


class SourceState(StrEnum):
    """filling: the rows that existed at the attach are being taken in. following: every write is followed. behind: a write was missed, and
    the comparison has not repaired it yet. orphaned: the table was dropped."""

    FILLING = "filling"
    FOLLOWING = "following"
    BEHIND = "behind"
    ORPHANED = "orphaned"


def state_of(source: Mapping[str, Any]) -> SourceState:
    """The state of a source; `source`: a row of the store."""
    if source["table_now"] is None:
        return SourceState.ORPHANED
    if source["behind_since"] is not None:
        return SourceState.BEHIND
    return SourceState.FILLING if source.get("compared_at") is None else SourceState.FOLLOWING


def source_of(row: Mapping[str, Any]) -> Source:
    """The source as the client, HTTP and the command line show it."""
    state, unreadable = state_of(row), int(row["outcome"].get("unreadable", 0))
    facts = {**row, "unreadable": unreadable, "example": row["outcome"].get("example")}
    wrong = state in (SourceState.BEHIND, SourceState.ORPHANED) or unreadable
    problem, following = what_is_wrong(facts) if wrong else (None, None)
    return Source(
        row["name"],
        row["table_now"] or f"{row['schema_name']}.{row['table_name']}",
        row["key_columns"],
        row["priority"],
        state,
        row["given"],
        row["attached_at"],
        row["compared_at"],
        row["about_rows"] or 0,
        row["progress"]["seen"] if row["progress"] else None,
        unreadable,
        problem,
        following,
    )


def what_is_wrong(source: Mapping[str, Any]) -> tuple[str, str]:
    """The problem of a source that is orphaned, behind, or has unreadable rows; and the command that repairs it."""
    name, table = source["name"], f"{source['schema_name']}.{source['table_name']}"
    if source["table_now"] is None:
        return f"the table {table} of the source {name} is gone", f"embedq detach {name} --yes --reason …"
    if source["behind_since"] is not None:
        what = f"the source {name} is behind {table}: {source['behind_statement']}: {source['behind_reason']}"
        return what, _mends(name, table, str(source["behind_reason"]))
    what = f"{source['unreadable']} rows of {table} cannot be embedded by the source {name}: {source['example']}"
    return what, f"mend these rows, or attach with an expression that has a value for them: {_again(name, table)}"


def command_of(given: Mapping[str, Any]) -> str:
    """The command that attaches the table again; `given`: the options of the original attach."""
    words = [shlex.quote(str(given["table"]))]
    for option in ("title", "content", "where", "tenant", "metadata", "key", "name", "priority"):
        value = given.get(option)
        if value:
            words += [f"--{option}", shlex.quote(",".join(value) if isinstance(value, list) else str(value))]
    return "embedq attach " + " ".join(words)


def _mends(name: str, table: str, reason: str) -> str:
    if OF_THE_DEFINITION.search(reason):
        return f"{_again(name, table)} with the columns that there are now; its vectors stay"
    return f"embedq reconcile --source {name} (workers do it by themselves within seconds)"


def _again(name: str, table: str) -> str:
    return f"embedq attach {table} --name {name} --title … --content …"
