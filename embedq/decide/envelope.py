"""The fields of a message's envelope that Celery reads, and the type and size that each must have.

Checked before Celery sees a message, because a wrong type in a header ends a Celery worker. Fields that are not named here are not passed
on (`messages.for_celery` rebuilds the message). Sources: celery 5.6, `app/amqp.py` (as_task_v2), `worker/request.py`, `worker/strategy.py`,
`app/task.py` (Context); kombu 5.7, `transport/virtual/base.py`, `transport/redis.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Check = Callable[[Any], bool]

SHORT, LONG = 255, 65_536
LARGEST_COUNT = 1_000_000_000
# Longest countdown of a message; longer waits are kept in the table, because Celery keeps such a message in a worker's memory.
LONGEST_ETA_S = 60.0


def text(longest: int) -> Check:
    return lambda value: isinstance(value, str) and len(value) <= longest


def count(most: int = LARGEST_COUNT) -> Check:
    """Whether the value is a non-negative integer; true and false are not."""
    return lambda value: type(value) is int and 0 <= value <= most


def one_of(*values: object) -> Check:
    return lambda value: type(value) in (str, int, bool) and value in values


def optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def many(check: Check, most: int = 100) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(check, value))


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= LARGEST_COUNT


def identifier(value: Any) -> bool:
    """Whether the value can be an id in logs, in Redis and on screens: printable ASCII without blanks."""
    return isinstance(value, str) and 0 < len(value) <= SHORT and value.isascii() and value.isprintable() and " " not in value


def moment(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64 and moment_of(value) is not None


def moment_of(value: str) -> datetime | None:
    """The time of an ISO 8601 text, in UTC; None if it is invalid."""
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_limits(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(optional(seconds), value))


def stamps(value: Any) -> bool:
    each = optional(text(SHORT))
    return isinstance(value, dict) and len(value) <= 100 and all(each(item) or many(each)(item) for item in value.values())


def delivery_info(value: Any) -> bool:
    return isinstance(value, dict) and flaw_of(value, DELIVERY_INFO, "") is None


HEADERS: Mapping[str, Check] = {
    "lang": optional(text(32)),
    "task": text(SHORT),
    "id": identifier,
    "root_id": optional(text(SHORT)),
    "parent_id": optional(text(SHORT)),
    "group": optional(text(SHORT)),
    "group_index": optional(count()),
    "shadow": optional(text(LONG)),
    "eta": optional(moment),
    "expires": optional(moment),
    "retries": optional(count(1000)),
    "timelimit": optional(time_limits),
    "argsrepr": optional(text(LONG)),
    "kwargsrepr": optional(text(LONG)),
    "origin": optional(text(LONG)),
    "ignore_result": optional(flag),
    "replaced_task_nesting": optional(count(1000)),
    "stamped_headers": optional(many(text(SHORT))),
    "stamps": optional(stamps),
    "redelivered": optional(flag),
    "compression": optional(text(SHORT)),
    "embedq_installation": optional(text(SHORT)),
}
PROPERTIES: Mapping[str, Check] = {
    "correlation_id": optional(text(SHORT)),
    "reply_to": optional(text(SHORT)),
    "delivery_mode": optional(one_of(1, 2)),
    "delivery_info": optional(delivery_info),
    "delivery_tag": optional(text(SHORT)),
    "priority": optional(count(255)),
    "body_encoding": optional(one_of("base64", "utf-8")),
}
DELIVERY_INFO: Mapping[str, Check] = {
    "exchange": optional(text(SHORT)),
    "routing_key": optional(text(SHORT)),
    "redelivered": optional(flag),
}
CONTENT_ENCODINGS = ("utf-8", "UTF-8", "utf8", "us-ascii", "ascii", "binary")


def flaw(envelope: Mapping[str, Any]) -> str | None:
    """The field that Celery could not read, or None. A missing field is not a flaw."""
    headers, properties = envelope.get("headers"), envelope.get("properties")
    if not isinstance(headers, dict | None) or not isinstance(properties, dict | None):
        return "its headers or properties are no JSON object"
    if not optional(one_of(*CONTENT_ENCODINGS))(envelope.get("content-encoding")):
        return "its content-encoding is none of ours"
    return flaw_of(headers or {}, HEADERS, "header ") or flaw_of(properties or {}, PROPERTIES, "property ")


def flaw_of(fields: Mapping[str, Any], checks: Mapping[str, Check], kind: str) -> str | None:
    wrong = next((name for name, check in checks.items() if name in fields and not check(fields[name])), None)
    return None if wrong is None else f"its {kind}{wrong} is not what Celery can read"
