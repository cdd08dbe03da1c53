"""Whether an article can be taken as it was handed in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.drafts import FIELDS, MAX_METADATA_DEPTH, MAX_SLUG, check_draft, draft_from
from embedq.errors import InputError
from embedq.model import ArticleDraft, Priority

TEA = ArticleDraft(title="Tea", content="Tea is a drink.")

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | storable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(storable, inner, max_size=3),
    max_leaves=10,
)


def nested(depth: int) -> Any:
    value: Any = "tea"
    for _ in range(depth):
        value = {"deeper": value}
    return value


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="a title and a content"),
        pytest.param({"title": ""}, id="no title"),
        pytest.param({"content": ""}, id="no content"),
        pytest.param({"id": "kg:node-12_a.b@c+d=é"}, id="an id of a knowledge graph"),
        pytest.param({"slug": "Guides/All about tea.md"}, id="a slug that is a path with spaces"),
        pytest.param({"slug": "x" * MAX_SLUG}, id="the longest slug"),
        pytest.param({"metadata": {"a": [1, 2.5, None, True, {"b": "c"}], "": ""}}, id="metadata of every kind"),
        pytest.param({"metadata": nested(MAX_METADATA_DEPTH)}, id="metadata as deep as they may be"),
    ],
)
def test_a_good_draft_passes(changes: dict[str, Any]) -> None:
    check_draft(replace(TEA, **changes))


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        pytest.param({"title": "T\0ea"}, "title", "title holds a NUL character at position 1", id="a NUL in the title"),
        pytest.param({"content": "Tea\0"}, "content", "content holds a NUL character at position 3", id="a NUL in the content"),
        pytest.param({"content": "T\ud800"}, "content", "half of a surrogate pair at position 1", id="a lone surrogate"),
        pytest.param({"slug": "\udc00"}, "slug", "half of a surrogate pair at position 0", id="a lone surrogate in the slug"),
        pytest.param({"title": " ", "content": "\n"}, "content", "both empty", id="nothing to embed"),
        pytest.param({"id": ""}, "id", "id has 0 characters", id="an empty id"),
        pytest.param({"id": "x" * 201}, "id", "id has 201 characters", id="a long id"),
        pytest.param({"id": "a/b"}, "id", "id holds '/' at position 1", id="an id with a slash"),
        pytest.param({"id": "a b"}, "id", "id holds ' ' at position 1", id="an id with a space"),
        pytest.param({"id": ".."}, "id", "addresses cannot hold", id="an id that means the folder above"),
        pytest.param({"slug": "x" * 501}, "slug", "slug has 501 characters", id="a long slug"),
        pytest.param({"slug": "a\nb"}, "slug", "slug holds", id="a slug of two lines"),
        pytest.param({"slug": " a"}, "slug", "slug holds ' ' at position 0", id="a slug that begins with a space"),
        pytest.param({"tenant_id": ""}, "tenant_id", "tenant_id has 0 characters", id="no tenant"),
        pytest.param({"tenant_id": "a\u0085b"}, "tenant_id", "tenant_id holds", id="a tenant with a control character"),
        pytest.param({"metadata": {"a": ["\0"]}}, "metadata", r"metadata\.a\[0\] holds a NUL", id="a NUL in the metadata"),
        pytest.param({"metadata": {"\0": 1}}, "metadata", "a key of metadata holds a NUL", id="a NUL in a key"),
        pytest.param(
            {"metadata": {1: 2}}, "metadata", "metadata is an object with a key that is no string", id="a key that is no string"
        ),
        pytest.param({"metadata": {"a": float("nan")}}, "metadata", r"metadata\.a is NaN, which JSON", id="no number"),
        pytest.param({"metadata": {"a": {1, 2}}}, "metadata", r"metadata\.a is of the type set", id="a set"),
        pytest.param({"metadata": {"a": 1 << 5000}}, "metadata", r"metadata\.a is a number", id="an absurdly long number"),
        pytest.param({"metadata": nested(MAX_METADATA_DEPTH + 1)}, "metadata", "nested too deep", id="too deep"),
    ],
)
def test_a_bad_draft_is_refused_with_its_field(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        check_draft(replace(TEA, **changes))

    assert refused.value.field == field
    assert refused.value.hint


def test_metadata_that_contain_themselves_are_refused() -> None:
    metadata: dict[str, Any] = {}
    metadata["me"] = metadata

    with pytest.raises(InputError, match="nested too deep"):
        check_draft(replace(TEA, metadata=metadata))


@given(st.dictionaries(storable, values, max_size=4))
def test_whatever_metadata_pass_can_be_written_as_json(metadata: dict[str, Any]) -> None:
    check_draft(replace(TEA, metadata=metadata))

    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata


@given(st.text(st.characters(), min_size=1))
def test_whatever_text_passes_postgresql_can_store(text: str) -> None:
    try:
        check_draft(replace(TEA, content=text))
    except InputError:
        assert "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    else:
        assert b"\0" not in text.encode("utf-8")


def test_an_object_with_every_key_becomes_a_draft() -> None:
    record = {
        "id": "t1",
        "slug": "tea",
        "title": "Tea",
        "content": "A drink.",
        "tenant_id": "acme",
        "priority": "high",
        "metadata": {"a": 1},
    }

    draft = draft_from(record, "default")

    assert set(record) == set(FIELDS)
    assert draft == ArticleDraft("Tea", "A drink.", "t1", "tea", "acme", {"a": 1}, Priority.HIGH)


def test_null_counts_as_absent() -> None:
    draft = draft_from({"content": "Tea\nis a drink.", "id": None, "title": None, "metadata": None, "tenant_id": None}, "acme")

    assert draft == ArticleDraft("Tea", "Tea\nis a drink.", tenant_id="acme")


def test_an_empty_title_is_kept() -> None:
    assert draft_from({"title": "", "content": "Tea."}, "acme").title == ""


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param([1], "this is a list, not an object", id="a list"),
        pytest.param(None, "this is null, not an object", id="null"),
        pytest.param({"content": "x", "titel": "y"}, "the key 'titel' is unknown; did you mean 'title'", id="a misspelt key"),
        pytest.param({"content": "x", "Tenant": "y"}, "did you mean 'tenant_id'", id="a key in another spelling"),
        pytest.param({"content": "x", "zzz": None}, "the key 'zzz' is unknown$", id="a key like no other"),
        pytest.param({"content": "x", "id": 12}, "id is a number, not a string", id="a number for an id"),
        pytest.param({"content": ["x"]}, "content is a list, not a string", id="a list for the content"),
        pytest.param({"content": "x", "title": True}, "title is true or false, not a string", id="a truth for the title"),
        pytest.param({"content": "x", "metadata": "y"}, "metadata is a string, not an object", id="a string for the metadata"),
        pytest.param({"content": "x", "priority": "High"}, "the priority 'High' is unknown", id="an unknown priority"),
        pytest.param({"slug": "tea"}, "title and content are both empty", id="neither title nor content"),
        pytest.param({"content": "x\0"}, "NUL", id="what check_draft refuses"),
    ],
)
def test_what_is_no_article_is_refused(record: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draft_from(record, "default")
