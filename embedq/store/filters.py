"""A filter on metadata as PostgreSQL evaluates it: equal values as text, everything else as a JSON path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from ..decide.filters import COMPARISONS, JOINS, check_filter, is_condition

SIGNS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def as_json(wanted: Mapping[str, Any] | None) -> str:
    """What the statements' parameter `metadata` takes. Raises InputError for an invalid filter."""
    wanted = wanted or {}
    check_filter(wanted)
    conditions = {key: value for key, value in wanted.items() if is_condition(key, value)}
    variables = Variables()
    path = _all_of("$", conditions, variables) if conditions else None
    equal = as_texts({key: value for key, value in wanted.items() if key not in conditions})
    return json.dumps({"equal": equal, "path": path, "variables": variables.values})


def as_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Values as they are compared: as PostgreSQL writes a JSON value as text. Raises InputError for what cannot be compared."""
    check_filter(metadata)
    return {key: _as_text(value) for key, value in metadata.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # PostgreSQL writes 1e-07 as 0.0000001
    return value if isinstance(value, str) else json.dumps(value)


class Variables:
    """Values of a JSON path as variables: no value is inserted into the path's text."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def name(self, value: Any) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"${name}"


def _all_of(path: str, wanted: Mapping[str, Any], variables: Variables) -> str:
    return " && ".join(f"({_one(path, key, value, variables)})" for key, value in wanted.items())


def _one(path: str, key: str, value: Any, variables: Variables) -> str:
    if key in JOINS:
        return JOINS[key].join(f"({_all_of(path, each, variables)})" for each in value)
    if key == "$not":
        return f"!({_all_of(path, value, variables)})"
    if key in COMPARISONS:
        return _compared(path, key, value, variables)
    below = f"{path}.{json.dumps(key)}"
    if isinstance(value, Mapping):
        return _all_of(below, value, variables)
    return _any_equal(below, value if isinstance(value, (list, tuple)) else [value], variables)


def _compared(path: str, comparison: str, value: Any, variables: Variables) -> str:
    match comparison:
        case "$exists":
            return f"exists({path})" if value else f"!(exists({path}))"
        case "$eq" | "$in":
            return _any_equal(path, value if comparison == "$in" else [value], variables)
        case "$ne" | "$nin":
            return f"!({_any_equal(path, value if comparison == '$nin' else [value], variables)})"
        case _:
            return f"{path} {SIGNS[comparison]} {variables.name(value)}"


def _any_equal(path: str, values: Sequence[Any], variables: Variables) -> str:
    return " || ".join(f"{path} == {variables.name(value)}" for value in values)
