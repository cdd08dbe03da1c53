"""Whether a search may ask for these values of the metadata: strings, numbers, true and false, each compared as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InputError
from .drafts import check_characters

MAX_FILTER_KEYS: Final = 20
MAX_FILTER_CHARACTERS: Final = 1000


def check_filter(wanted: Mapping[str, Any]) -> None:
    """Raises InputError, with `field` set to `filter` or `filter.KEY`."""
    if len(wanted) > MAX_FILTER_KEYS:
        raise InputError(f"the filter has {len(wanted)} keys", hint=f"ask for at most {MAX_FILTER_KEYS}", field="filter")
    for key, value in wanted.items():
        _check_text("filter", key, "a key of the filter")
        field = f"filter.{key}"
        if isinstance(value, str):
            _check_text(field, value, field)
        elif not is_number_or_truth(value):
            raise InputError(
                f"{field} is no value to compare with",
                hint="ask for a string, a finite number, true or false; for an absent value leave the key out",
                field=field,
            )


def is_number_or_truth(value: object) -> bool:
    """As in drafts: longer integers than that are no numbers to anybody who reads the JSON."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and value.bit_length() <= 4096


def _check_text(field: str, text: str, part: str) -> None:
    if len(text) > MAX_FILTER_CHARACTERS:
        raise InputError(f"{part} has {len(text)} characters", hint=f"at most {MAX_FILTER_CHARACTERS}", field=field)
    check_characters(field, text, part)
