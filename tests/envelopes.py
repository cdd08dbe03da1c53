"""Messages as Celery sends them, and what anybody might put in their place: for fuzzing what a worker takes from a broker."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

TASK = "embedq.embed"


def envelope(
    ids: Sequence[int], headers: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """What Celery 5.6 sends for `embedq.embed` over Redis, with these fields in place of its own."""
    name = str(uuid.uuid4())
    body = [[list(ids)], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK,
            "id": name,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": name,
            "parent_id": None,
            "argsrepr": "([1],)",
            "kwargsrepr": "{}",
            "origin": "gen1@here",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        }
        | dict(headers or {}),
        "properties": {
            "correlation_id": name,
            "reply_to": str(uuid.uuid4()),
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_info": {"exchange": "embedq", "routing_key": "normal"},
            "delivery_tag": name,
        }
        | dict(properties or {}),
    } | more


ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "x",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "😀",
    "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00-23:59",
    "2030-01-01",
    "x" * 70_000,
    [],
    [None],
    [None, None],
    ["x"],
    [1, 2, 3],
    {},
    {"x": 1},
    {"__type__": "datetime", "__value__": 5},
    {"exchange": "x"},
    {"exchange": None, "routing_key": ["x"]},
    "application/x-gzip",
    "application/zstd",
]
VALUE = (
    # Each time a value of its own: what is put together from them changes its parts.
    st.sampled_from([*ODD, *({"x": odd} for odd in ODD), *([odd] for odd in ODD)]).map(copy.deepcopy)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
)
HEADERS = [
    *envelope([1])["headers"],
    "compression",
    "redelivered",
    "meth",
    "update",
    "get",
    "args",
    "kwargs",
    "hostname",
    "callbacks",
    "chain",
    "delivery_info",
    "properties",
    "__class__",
    "clock",
    "x-death",
]
PROPERTIES = [*envelope([1])["properties"], "content_type", "expiration", "type", "headers"]
PARTS = ["headers", "properties", "body", "content-type", "content-encoding", "other"]
FIELDS = [
    *(("headers", name) for name in HEADERS * 2),
    *(("properties", name) for name in PROPERTIES * 3),
    *((part, "") for part in PARTS),
]
CONTENTS = ["ids", "args", "kwargs", "embedded", "callbacks", "chain", "chord", "whole", "old"]
# What becomes of the whole: as it is, an entry of `unacked`, cut off, bytes that are no UTF-8, a key twice, no object.
SHAPES = ["as it is"] * 20 + ["held", "cut off", "no text", "twice", "alone"]


def content(part: str, value: Any) -> Any:
    """The body of a message of ours, this part of it set by somebody else."""
    embedded: Any = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    match part:
        case "ids":
            return [[value], {}, embedded]
        case "args":
            return [value, {}, embedded]
        case "kwargs":
            return [[[1]], value, embedded]
        case "embedded":
            return [[[1]], {}, value]
        case "whole":
            return value
        case "old":
            return {"task": TASK, "id": value, "args": [[1]], "kwargs": {}}
    return [[[1]], {}, embedded | {part: value}]


def put_together(
    changes: list[tuple[tuple[str, str], Any]], body: tuple[str, Any] | None, lacks: str | None, shape: str, cut: int
) -> bytes:
    made: dict[str, Any] = envelope([1])
    made["headers"].pop(lacks, None)
    if body is not None:
        made["body"] = base64.b64encode(json.dumps(content(*body)).encode()).decode()
    for (part, name), value in changes:
        if not name:
            made[part] = value
        elif isinstance(made[part], dict):
            made[part][name] = value
    return shaped(json.dumps(made).encode(), shape, cut, changes)


def shaped(raw: bytes, shape: str, cut: int, values: Any) -> bytes:
    match shape:
        case "held":
            return b"[" + raw + b', "embedq", "normal"]'
        case "cut off":
            return raw[: cut % len(raw)]
        case "no text":
            return raw.replace(b'"id"', b'"\xff"', 1)
        case "twice":
            return raw.replace(b'"id"', b'"id": 5, "id"', 1)
        case "alone":
            return json.dumps(values).encode()
    return raw


# Messages of ours in which somebody else has set up to three fields, or a part of the body, as they lie in Redis.
RAW = st.builds(
    put_together,
    st.lists(st.tuples(st.sampled_from(FIELDS), VALUE), max_size=3),
    st.none() | st.tuples(st.sampled_from(CONTENTS), VALUE),
    st.sampled_from([None] * 8 + ["id", "task"]),
    st.sampled_from(SHAPES),
    st.integers(0, 2000),
)


def collected(strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """So many examples, the same in every run."""
    found: list[Any] = []

    @settings(max_examples=number, database=None, derandomize=True, phases=[Phase.generate], deadline=None)
    @given(strategy)
    def collect(made: Any) -> None:
        found.append(made)

    collect()
    return found
