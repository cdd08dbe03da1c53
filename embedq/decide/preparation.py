"""A model's preparation (`model.Preparation`): parsed from settings and from the database, and compared. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from ..model import Preparation, Role

KNOWN: Final = "known"
PREFIXES: Final = ("document", "query")
PARAMETERS: Final = ("document_parameters", "query_parameters")
EXAMPLE: Final = '{"document": "passage: ", "query": "query: "}'
LONGEST: Final = 2000
# Fields that a provider sets in its requests.
NOT_THEIRS: Final = frozenset(("model", "input", "dimensions", "encoding_format", "truncate"))


def prefixes_of(raw: str) -> Preparation | None:
    """Parse `EMBEDDING_PREFIXES` and `--prefixes`; None if empty or `known`. `{}`: a model without prefixes. Raises ValueError."""
    if not raw or raw == KNOWN:
        return None
    try:
        found = json.loads(raw)
    except ValueError:
        raise ValueError(f"must be {KNOWN}, or a JSON object: {EXAMPLE}") from None
    if not isinstance(found, dict) or not found.keys() <= {*PREFIXES, *PARAMETERS}:
        raise ValueError(f"must be a JSON object with {', '.join((*PREFIXES, *PARAMETERS))}, or some of them")
    document, query = (_text(name, found.get(name, "")) for name in PREFIXES)
    of_documents, of_queries = (_parameters(name, found.get(name, {})) for name in PARAMETERS)
    return Preparation(document, query, of_documents, of_queries)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or "\0" in value:
        raise ValueError(f"{name} must be a text of at most {LONGEST} characters without NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} has half a character (a lone surrogate)") from None
    return value


def _parameters(name: str, value: object) -> str:
    if not isinstance(value, dict) or NOT_THEIRS & value.keys():
        raise ValueError(f"{name} must be a JSON object without {', '.join(sorted(NOT_THEIRS))}")
    return fields(**value)


def fields(**values: Any) -> str:
    """Request fields as canonical JSON, so that equal fields are equal texts."""
    return json.dumps(values, sort_keys=True) if values else ""


def of_register(data: Mapping[str, Any]) -> Preparation:
    """From the database column; unknown keys (of a later version) are ignored."""
    known = {each: data[each] for each in asdict(Preparation()) if each in data}
    return Preparation(**known)


def for_register(preparation: Preparation) -> dict[str, Any]:
    """The values that differ from the defaults, for the database column."""
    return {name: value for name, value in asdict(preparation).items() if value not in ("", None) and value is not False}


def alike(one: Preparation, other: Preparation) -> bool:
    """Whether both make the same inputs, whatever name the models are registered under."""
    return replace(one, asked_as="") == replace(other, asked_as="")


def with_prefixes(base: Preparation, prefixes: Preparation) -> Preparation:
    """`base` with the prefixes and parameters of the other."""
    return replace(base, **{name: getattr(prefixes, name) for name in (*PREFIXES, *PARAMETERS)})


def same_prefixes(one: Preparation, other: Preparation) -> bool:
    return with_prefixes(one, other) == one


def wants_the_same(preparation: Preparation) -> bool:
    """Whether prefixes and parameters are the same."""
    document, query = Role.DOCUMENT, Role.QUERY
    return (preparation.prefix(document), preparation.parameters(document)) == (
        preparation.prefix(query),
        preparation.parameters(query),
    )


def told(preparation: Preparation) -> str:
    """Text for display: prefixes and chunk size; empty if neither is set."""
    said = [f"{name} {getattr(preparation, name)!r}" for name in PREFIXES if getattr(preparation, name)]
    said += [f"{name} {getattr(preparation, name)}".replace("_", " ") for name in PARAMETERS if getattr(preparation, name)]
    if preparation.chunk_tokens is not None:
        said.append(f"chunks of {preparation.chunk_tokens} tokens, {preparation.chunk_overlap or 0} repeated")
    if preparation.headings:
        said.append("headings before chunks")
    return ", ".join(said)
