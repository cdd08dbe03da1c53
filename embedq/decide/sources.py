"""Sources: what state one is in, and which command mends it. Values in, values out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ..model import Source

# SQLSTATEs as a reason ends with them: of the definition, which names what is not there any more, and not of a moment.
OF_THE_DEFINITION = re.compile(r"\((42|0A)[0-9A-Z]{3}\)$")


class SourceState(StrEnum):
    """filling: the rows that were there when it was attached are being taken in. following: every write is followed. behind: a write was not,
    and the comparison with the table has not mended it yet. orphaned: its table is gone."""

    FILLING = "filling"
    FOLLOWING = "following"
    BEHIND = "behind"
    ORPHANED = "orphaned"


def state_of(source: Mapping[str, Any]) -> SourceState:
    """`source`: a row as the store gives it."""
    if source["table_now"] is None:
        return SourceState.ORPHANED
    if source["behind_since"] is not None:
        return SourceState.BEHIND
    return SourceState.FILLING if source.get("compared_at") is None else SourceState.FOLLOWING


def source_of(row: Mapping[str, Any]) -> Source:
    """As the client and the doors show it."""
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
    """What is wrong with a source that is orphaned, behind, or has rows that cannot be read; and the command that mends it."""
    name, table = source["name"], f"{source['schema_name']}.{source['table_name']}"
    if source["table_now"] is None:
        return f"the table {table} of the source {name} is gone", f"embedq detach {name} --yes --reason …"
    if source["behind_since"] is not None:
        what = f"the source {name} is behind {table}: {source['behind_statement']}: {source['behind_reason']}"
        return what, _mends(name, table, str(source["behind_reason"]))
    what = f"{source['unreadable']} rows of {table} cannot be embedded by the source {name}: {source['example']}"
    return what, f"mend these rows, or attach with an expression that has a value for them: {_again(name, table)}"


def command_of(given: Mapping[str, Any]) -> str:
    """The command that attaches a table as it was attached; `given`: what was said then."""
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
