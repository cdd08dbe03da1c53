"""Remote control of Celery workers: the commands that embedq's workers accept, and the type of each argument.

`celery -A embedq control|inspect` and Flower send them over the broker, so anything may arrive there. A command is rebuilt from the fields
named here; an invalid one is ignored. Sources: celery 5.6, `worker/control.py`, `app/control.py`; kombu 5.7, `pidbox.py`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..model import Priority
from .envelope import SHORT, Check, count, flag, identifier, many, one_of, optional, seconds, text

LARGEST_COMMAND_BYTES = 65_536
LARGEST_CLOCK = 2**53
EXCHANGE = "celery.pidbox"
_rate = re.compile(r"\d{1,9}(/[smh])?")


def _is_rate(value: Any) -> bool:
    return (isinstance(value, str) and _rate.fullmatch(value) is not None) or count()(value)


def _one_or_many(value: Any) -> bool:
    return text(SHORT)(value) or many(text(SHORT), 10_000)(value)


_FLAG, _NAME, _FEW = optional(flag), optional(text(SHORT)), count(64)
# Commands, and their arguments that are passed on. Those in NEEDED are required, the others optional.
_KNOWN: Sequence[tuple[str, Mapping[str, Check]]] = (
    ("ping stats clock report revoked dump_revoked scheduled dump_schedule reserved dump_reserved active_queues", {}),
    ("heartbeat enable_events disable_events shutdown", {}),
    ("active dump_active", {"safe": _FLAG}),
    ("conf dump_conf", {"with_defaults": _FLAG}),
    ("registered dump_tasks", {"taskinfoitems": optional(many(text(64))), "builtins": _FLAG}),
    ("query_task", {"ids": _one_or_many}),
    ("revoke", {"task_id": _one_or_many, "terminate": _FLAG, "signal": _NAME}),
    ("terminate", {"task_id": _one_or_many, "signal": text(16)}),
    ("rate_limit", {"task_name": text(SHORT), "rate_limit": _is_rate}),
    ("time_limit", {"task_name": text(SHORT), "soft": optional(seconds), "hard": optional(seconds)}),
    ("pool_grow pool_shrink", {"n": _FEW}),
    ("pool_restart", {"reload": _FLAG}),
    ("autoscale", {"max": optional(_FEW), "min": optional(_FEW)}),
    ("add_consumer cancel_consumer", {"queue": one_of(*(priority.value for priority in Priority))}),
)
COMMANDS = {name: arguments for names, arguments in _KNOWN for name in names.split()}
NEEDED = ("ids", "task_id", "task_name", "rate_limit", "queue")
_FIELDS: Mapping[str, Check] = {
    "destination": optional(many(text(SHORT), 10_000)),
    "pattern": _NAME,
    # No regular expressions, because some take exponential time.
    "matcher": optional(one_of("glob")),
    "ticket": _NAME,
}


def command_of(body: bytes | str) -> dict[str, Any] | str:
    """The command as passed to the worker, or the reason why it is ignored."""
    found = _json(body)
    if not isinstance(found, dict):
        return "it is no JSON object"
    method = found.get("method")
    if not isinstance(method, str) or method not in COMMANDS:
        return "it names no command that workers of ours obey"
    wrong = next((name for name, check in _FIELDS.items() if not check(found.get(name))), None)
    if wrong is not None or not _is_reply_to(found.get("reply_to")):
        return f"{wrong or 'reply_to'} is not in order"
    arguments = _arguments(found.get("arguments"), COMMANDS[method])
    if isinstance(arguments, str):
        return arguments
    return {
        "method": method,
        "arguments": arguments,
        "reply_to": found.get("reply_to"),
        **{name: found.get(name) for name in _FIELDS},
    }


def clock_of(headers: object) -> int:
    """The sender's logical clock; 0 if missing or invalid."""
    value = headers.get("clock") if isinstance(headers, dict) else None
    return value if type(value) is int and 0 <= value <= LARGEST_CLOCK else 0


def made_anew(data: bytes, tag: str) -> bytes | str:
    """A remote command from Redis, rebuilt; or the reason why it is ignored."""
    envelope = _json(data)
    if not isinstance(envelope, dict) or not isinstance(envelope.get("body"), str):
        return "it is no message"
    properties = envelope.get("properties")
    encoded = isinstance(properties, dict) and properties.get("body_encoding") == "base64"
    try:
        body = base64.b64decode(envelope["body"], validate=True) if encoded else envelope["body"]
    except ValueError:
        return "its body is not base64"
    command = command_of(body)
    if isinstance(command, str):
        return command
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(command).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"clock": clock_of(envelope.get("headers"))},
            "properties": {
                "delivery_mode": 1,
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": tag,
                "delivery_info": {"exchange": EXCHANGE, "routing_key": ""},
            },
        }
    ).encode()


def _arguments(given: object, checks: Mapping[str, Check]) -> dict[str, Any] | str:
    if not isinstance(given, dict | None):
        return "its arguments are no JSON object"
    known = {name: value for name, value in (given or {}).items() if name in checks}
    wrong = next((name for name, check in checks.items() if name in known and not check(known[name])), None)
    missing = next((name for name in checks if name in NEEDED and name not in known), None)
    return known if wrong is None and missing is None else f"its argument {wrong or missing} is not in order"


def _is_reply_to(value: object) -> bool:
    """Whether replies go to a reply exchange of Celery, and not into one of embedq's queues."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"exchange", "routing_key"}:
        return False
    exchange, key = value["exchange"], value["routing_key"]
    return identifier(exchange) and identifier(key) and exchange.startswith("reply.") and exchange.endswith(".pidbox")


def _json(data: bytes | str) -> Any:
    if len(data) > LARGEST_COMMAND_BYTES:
        return None
    try:
        return json.loads(data.decode() if isinstance(data, bytes) else data)
    except (ValueError, RecursionError):
        return None
