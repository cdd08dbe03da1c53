"""What a search may ask of the metadata."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.filters import MAX_FILTER_CHARACTERS, MAX_FILTER_KEYS, MAX_FILTER_VALUES, check_filter
from embedq.errors import InputError
from embedq.store.filters import as_json, as_texts


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        pytest.param({"a": None}, "filter.a", id="null, which no article has as a value"),
        pytest.param({"a": []}, "filter.a", id="an empty list"),
        pytest.param({"a": ["x", None]}, "filter.a", id="null in a list"),
        pytest.param({"a": [["x"]]}, "filter.a", id="a list in a list"),
        pytest.param({"a": list(range(MAX_FILTER_VALUES + 1))}, "filter.a", id="a long list"),
        pytest.param({"a": {}}, "filter.a", id="an empty object"),
        pytest.param({"a": {"b": None}}, "filter.a.b", id="null in an object"),
        pytest.param({"a": {"$like": "x"}}, "filter.a.$like", id="a comparison that there is not"),
        pytest.param({"a": {"$gt": [1]}}, "filter.a.$gt", id="a list to be greater than"),
        pytest.param({"a": {"$in": 1}}, "filter.a.$in", id="no list to be in"),
        pytest.param({"a": {"$exists": 1}}, "filter.a.$exists", id="neither there nor not"),
        pytest.param({"$and": {"a": 1}}, "filter.$and", id="no list to be joined"),
        pytest.param({"$or": [1]}, "filter.$or", id="a number where a filter belongs"),
        pytest.param({"$not": 1}, "filter.$not", id="a number to be negated"),
        pytest.param({"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "filter.a.b.c.d.e", id="nested too deep"),
        pytest.param({"a": {str(number): 1 for number in range(MAX_FILTER_KEYS)}}, "filter", id="many keys in all"),
        pytest.param({"a": math.inf}, "filter.a", id="infinity"),
        pytest.param({"a": math.nan}, "filter.a", id="not a number"),
        pytest.param({"a": 10**4000}, "filter.a", id="a number without end"),
        pytest.param({"a": "x\0"}, "filter.a", id="a NUL"),
        pytest.param({"a": "\ud800"}, "filter.a", id="half of a surrogate pair"),
        pytest.param({"a": "x" * (MAX_FILTER_CHARACTERS + 1)}, "filter.a", id="a long value"),
        pytest.param({"\0": "x"}, "filter", id="a NUL in a key"),
        pytest.param({"\udfff": "x"}, "filter", id="half of a surrogate pair in a key"),
        pytest.param({str(number): 1 for number in range(MAX_FILTER_KEYS + 1)}, "filter", id="many keys"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_field(wanted: dict[str, Any], field: str):
    with pytest.raises(InputError) as refused:
        as_json(wanted)

    assert refused.value.field == field
    assert refused.value.hint


@given(
    st.dictionaries(
        # A key with $ is a comparison.
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(lambda key: not key.startswith("$")),
        st.one_of(st.booleans(), st.integers(-(2**64), 2**64)),
    )
)
def test_numbers_and_truth_values_are_compared_as_json_writes_them(wanted: dict[str, Any]):
    if len(wanted) <= MAX_FILTER_KEYS:
        check_filter(wanted)

        assert as_texts(wanted) == {key: json.dumps(value) for key, value in wanted.items()}


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1e-07, "0.0000001"), (1e22, "10000000000000000000000"), (-2.0, "-2.0")]
)
def test_fractions_are_written_as_postgresql_writes_them(value: float, text: str):
    assert as_texts({"a": value}) == {"a": text}
