"""Checks that an article can be stored as given by a file, HTTP or a caller. Nothing is corrected silently."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from ..errors import InputError
from ..model import ArticleDraft, Priority
from .pages import title_of

# Characters. Together a tenant and a slug stay below the 2,704 bytes that an entry of a PostgreSQL index may have.
MAX_ID: Final = 200
MAX_TENANT_ID: Final = 100
MAX_SLUG: Final = 500
MAX_METADATA_DEPTH: Final = 64
_MAX_PATH: Final = 100

# An id is part of a URL (/api/articles/ID); a slug may be a path.
_NOT_IN_AN_ID: Final = re.compile(r"[\s/\\?#%\x00-\x1f\x7f-\x9f]")
_NOT_IN_A_SLUG: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]|^\s|\s$")

_TEXT_FIELDS: Final = ("id", "slug", "tenant_id", "title", "content", "priority")
FIELDS: Final = (*_TEXT_FIELDS, "metadata")


def check_draft(draft: ArticleDraft) -> None:
    """Raises InputError, with `field` set, if PostgreSQL could not store the draft, its id could not be used in a URL, or there is nothing
    to embed. A draft that passes is stored unchanged."""
    check_characters("title", draft.title)
    check_characters("content", draft.content)
    if not draft.title.strip() and not draft.content.strip():
        raise InputError("title and content are both empty", hint="there must be something to embed", field="content")
    _check_name("id", draft.id, MAX_ID, _NOT_IN_AN_ID)
    _check_name("tenant_id", draft.tenant_id, MAX_TENANT_ID, _NOT_IN_AN_ID)
    _check_name("slug", draft.slug, MAX_SLUG, _NOT_IN_A_SLUG)
    _check_metadata(draft.metadata)


def draft_from(record: object, tenant_id: str) -> ArticleDraft:
    """The draft that a JSON object describes; `tenant_id` is for an object that names none. A key whose value is null counts as absent;
    without a title the first line of the content is used. Raises InputError if the value is not an object, for unknown keys and wrong
    types, and as check_draft does."""
    if not isinstance(record, dict):
        raise InputError(f"this is {_type_name(record)}, not an object", hint='write {"title": …, "content": …}')
    given = {key: value for key, value in record.items() if value is not None}
    _check_keys(record)
    _check_types(given)
    draft = ArticleDraft(
        title=given["title"] if "title" in given else title_of(given.get("content", "")),
        content=given.get("content", ""),
        id=given.get("id"),
        slug=given.get("slug"),
        tenant_id=given.get("tenant_id", tenant_id),
        metadata=given.get("metadata", {}),
        priority=_priority(given.get("priority")),
    )
    check_draft(draft)
    return draft


def _check_keys(record: dict[str, Any]) -> None:
    for key in record:
        if key not in FIELDS:
            nearest = get_close_matches(key.lower(), FIELDS, n=1)
            meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise InputError(
                f"the key {key!r} is unknown{meant}", hint=f"keys: {', '.join(FIELDS)}; put the rest into metadata"
            )


def _check_types(given: dict[str, Any]) -> None:
    for field in _TEXT_FIELDS:
        if field in given and not isinstance(given[field], str):
            raise InputError(f"{field} is {_type_name(given[field])}, not a string", hint="write it in quotes", field=field)
    if not isinstance(given.get("metadata", {}), dict):
        raise InputError(f"metadata is {_type_name(given['metadata'])}, not an object", hint="write {…}", field="metadata")


def _priority(name: str | None) -> Priority | None:
    if name is None:
        return None
    try:
        return Priority(name)
    except ValueError:
        raise InputError(f"the priority {name!r} is unknown", hint=f"one of: {', '.join(Priority)}", field="priority") from None


def _check_name(field: str, name: str | None, longest: int, forbidden: re.Pattern[str]) -> None:
    if name is None:
        return
    if not 1 <= len(name) <= longest:
        raise InputError(f"{field} has {len(name)} characters", hint=f"it may have 1 to {longest}", field=field)
    if name in (".", ".."):
        raise InputError(f"{field} is {name!r}, which addresses cannot hold", hint="choose another", field=field)
    check_characters(field, name)
    if found := forbidden.search(name):
        raise InputError(
            f"{field} holds {found[0]!r} at position {found.start()}", hint="leave out that character", field=field
        )


def check_characters(field: str, text: str, part: str = "") -> None:
    """Raises InputError if PostgreSQL could not store the text; `part` names the part of the field."""
    name = part or field
    if (position := text.find("\0")) >= 0:
        raise InputError(
            f"{name} holds a NUL character at position {position}", hint="PostgreSQL cannot store it: remove it", field=field
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds half of a surrogate pair at position {error.start}",
            hint="the text was cut or decoded wrongly: repair it at its source",
            field=field,
        ) from None


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    for path, value, depth in _parts(metadata):
        if depth > MAX_METADATA_DEPTH:
            raise InputError("metadata is nested too deep", hint=f"at most {MAX_METADATA_DEPTH} levels", field="metadata")
        if isinstance(value, str):
            check_characters("metadata", value, path)
        elif not _is_json(value):
            raise InputError(
                f"{path} is {_type_name(value)}, which JSON cannot hold",
                hint="use strings, finite numbers, true, false, null, lists and objects with strings as keys",
                field="metadata",
            )


def _parts(metadata: Mapping[str, Any]) -> Iterator[tuple[str, object, int]]:
    """(where, value, depth) of everything in the metadata, keys included, without recursion."""
    waiting: list[tuple[str, object, int]] = [("metadata", dict(metadata), 0)]
    while waiting:
        path, value, depth = waiting.pop()
        yield path, value, depth
        path = path[:_MAX_PATH]  # each part has a separate copy of its path
        if isinstance(value, dict):
            waiting += [(f"a key of {path}", key, depth) for key in value]
            waiting += [
                (f"{path}.{key[:_MAX_PATH] if isinstance(key, str) else key}", inner, depth + 1) for key, inner in value.items()
            ]
        elif isinstance(value, (list, tuple)):
            waiting += [(f"{path}[{number}]", inner, depth + 1) for number, inner in enumerate(value)]


def _is_json(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return value.bit_length() <= 4096
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value)
    return value is None or isinstance(value, (list, tuple))


def _type_name(value: object) -> str:
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return "an object with a key that is no string"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return names.get(type(value), f"of the type {type(value).__name__}")
