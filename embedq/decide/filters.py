"""Checks the metadata filter of a search.

A filter maps keys to wanted values: a string, number, true or false, compared for equality; a list of them, any of which matches; a mapping
of comparisons (`{"$gte": 2020, "$lt": 2024}`); or a mapping of keys of a nested object. `$and` and `$or` take
lists of filters, `$not` takes one. Fields of the article itself are `@created_at` and `@updated_at` (ISO 8601, UTC), `@id`, `@slug`
and `@title`. A list in the metadata matches if one of its values does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InputError
from .drafts import check_characters

MAX_FILTER_KEYS: Final = 20
MAX_FILTER_VALUES: Final = 200
MAX_FILTER_DEPTH: Final = 5
MAX_FILTER_CHARACTERS: Final = 1000
OWN: Final = ("@created_at", "@updated_at", "@id", "@slug", "@title")
# The JSON path operators that join the conditions of a list.
JOINS: Final = {"$and": " && ", "$or": " || "}
COMPARISONS: Final = ("$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists")


def check_filter(wanted: Mapping[str, Any]) -> None:
    """Raises InputError, with `field` set to `filter` or `filter.KEY`."""
    if _keys(wanted) > MAX_FILTER_KEYS:
        raise InputError(f"the filter has {_keys(wanted)} keys", hint=f"ask for at most {MAX_FILTER_KEYS}", field="filter")
    _check_mapping("filter", wanted, MAX_FILTER_DEPTH)


def is_condition(key: str, value: Any) -> bool:
    """Whether the entry is a condition, and not a key with the value that it must equal."""
    return key in JOINS or key == "$not" or key in OWN or isinstance(value, (Mapping, list, tuple))


def _keys(wanted: Any) -> int:
    """The number of keys of all levels, down to the allowed depth; deeper filters are refused anyway."""
    level, found = [wanted], 0
    for _ in range(MAX_FILTER_DEPTH + 1):
        found += sum(len(each) for each in level if isinstance(each, Mapping))
        level = [
            below
            for each in level
            for below in (each.values() if isinstance(each, Mapping) else each if isinstance(each, list) else ())
        ]
    return found


def _check_mapping(field: str, wanted: Any, depth: int) -> None:
    if not isinstance(wanted, Mapping) or not depth:
        raise _wrong(field, "is no filter" if depth else "is nested too deep")
    for key, value in wanted.items():
        _check_text("filter", key, "a key of the filter")
        _check_one(f"{field}.{key}", key, value, depth)


def _check_one(field: str, key: str, value: Any, depth: int) -> None:
    if key in JOINS:
        for each in _filled(field, value):
            _check_mapping(field, each, depth - 1)
    elif key == "$exists":
        if not isinstance(value, bool):
            raise _wrong(field, "is neither true nor false")
    elif key == "$not" or isinstance(value, Mapping):
        if not value:
            raise _wrong(field, "is empty")
        _check_mapping(field, value, depth - 1)
    elif isinstance(value, (list, tuple)) and key not in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
        for each in _filled(field, value):
            _check_value(field, each)
    elif key.startswith("$") and key not in COMPARISONS and depth < MAX_FILTER_DEPTH:
        raise InputError(
            f"{field}: there is no {key}", hint=f"there are {', '.join((*COMPARISONS, *JOINS, '$not'))}", field=field
        )
    else:
        _check_value(field, value, listed=key in ("$in", "$nin"))


def _filled(field: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MAX_FILTER_VALUES:
        raise _wrong(field, f"is no list of 1 to {MAX_FILTER_VALUES}")
    return list(value)


def _check_value(field: str, value: Any, *, listed: bool = False) -> None:
    if isinstance(value, str) and not listed:
        _check_text(field, value, field)
    elif listed or not is_number_or_truth(value):
        raise _wrong(field, "is no value to compare with")


def _wrong(field: str, what: str) -> InputError:
    return InputError(
        f"{field} {what}",
        hint='ask for a string, a finite number, true or false, a list of them, or a comparison such as {"$gte": 2020};'
        ' for an absent value {"$exists": false}',
        field=field,
    )


def is_number_or_truth(value: object) -> bool:
    """Whether the value is a number or a boolean. As in drafts, integers of more than 4,096 bits are refused, because JSON readers may not
    parse them."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and value.bit_length() <= 4096


def _check_text(field: str, text: Any, part: str) -> None:
    if not isinstance(text, str):
        raise _wrong(field, "has a key that is no string")
    if len(text) > MAX_FILTER_CHARACTERS:
        raise InputError(f"{part} has {len(text)} characters", hint=f"at most {MAX_FILTER_CHARACTERS}", field=field)
    check_characters(field, text, part)
