"""Logging: lines of text, or JSON objects (EMBEDDING_LOG_FORMAT=json), with the same fields in both.

The fields are passed as `extra=`: article, task, attempt, delivery, worker, request_id. They contain no text of an article and no secret.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from copy import copy
from datetime import UTC, datetime
from typing import TextIO

from .. import visible
from ..addresses import hide
from ..model import Outcome, TaskStatus

log = logging.getLogger("embedq.tasks")

FACTS = (
    "article",
    "tenant",
    "task",
    "attempt",
    "claim",
    "delivery",
    "worker",
    "outcome",
    "error_class",
    "priority",
    "request_id",
    "method",
    "path",
    "status",
    "seconds",
    "peer",
)
QUIET = ("httpx", "httpcore", "openai", "urllib3")

# The id of the request that this thread or task handles; it is added to log lines and audit entries.
request_id: ContextVar[str] = ContextVar("embedq_request_id", default="")


class ForPeople(logging.Formatter):
    """Text format: level, logger, message, fields."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={value}" for name, value in facts_of(record).items())
        line = super().format(record)
        return f"{line} [{facts}]" if facts else line


class ForPrograms(logging.Formatter):
    """JSON format, one object per line: timestamp (UTC, ISO 8601), level, logger, message, fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= facts_of(record)
        if below := what_is_below(record):
            told["traceback"] = below
        # Masked before JSON escapes characters that may be in a password.
        hidden = {name: value if isinstance(value, int | float) else hide(str(value)) for name, value in told.items()}
        return visible.in_json(json.dumps(hidden, ensure_ascii=False))


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields of a record that were passed as `extra=`, and the id of the current request."""
    found = {name: value for name in FACTS if (value := getattr(record, name, None)) is not None}
    if "request_id" not in found and (of_request := request_id.get()):
        found["request_id"] = of_request
    return found


def what_is_below(record: logging.LogRecord) -> str:
    """The record's traceback and stack."""
    traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text
    return "\n".join(filter(None, (traceback, record.stack_info)))


class OneLine(logging.Formatter):
    """Wraps another formatter: the message on one line, with passwords of this process's addresses masked; traceback lines follow indented,
    so that they cannot be mistaken for log lines."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        below = what_is_below(record)
        if not below:
            return visible.line(hide(self.inner.format(record)).strip())
        bare = copy(record)
        bare.exc_info = bare.exc_text = bare.stack_info = None
        line = visible.line(hide(self.inner.format(bare)).strip())
        return "\n".join((line, *(f"  {each}" for each in visible.block(hide(below)).splitlines())))


def formatter(style: str, inner: logging.Formatter | None = None) -> logging.Formatter:
    """The formatter for a style. `inner`: formatter to use instead of `ForPeople` for "text"."""
    if isinstance(inner, OneLine | ForPrograms):
        return inner
    return ForPrograms() if style == "json" else OneLine(inner or ForPeople())


def set_up(style: str = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """Configure the process's logging, on stderr unless a stream is given. A second call replaces the first."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(style))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def set_up_for_commands() -> None:
    """For commands that do not call `set_up`: warnings and errors go to stderr in embedq's format."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(formatter("text"))


def outcomes(worker: str, delivery: str, settled: Sequence[Outcome], states: dict[int, str]) -> None:
    """Log the outcome of each settled task: failures as warnings, others at level debug."""
    for outcome in settled:
        state = states.get(outcome.task.id, "late")
        level = logging.WARNING if state == TaskStatus.FAILED else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(
                level,
                "task %d: %s%s",
                outcome.task.id,
                state,
                _because(outcome),
                extra=_facts(worker, delivery, outcome, state),
            )


def _because(outcome: Outcome) -> str:
    return f" ({outcome.message})" if outcome.message else ""


def _facts(worker: str, delivery: str, outcome: Outcome, state: str) -> dict[str, object]:
    task = outcome.task
    return {
        "article": task.article_id,
        "tenant": task.tenant_id,
        "task": task.id,
        "attempt": task.attempts + int(outcome.charged),
        "claim": task.claim,
        "delivery": delivery,
        "worker": worker,
        "outcome": state,
        "error_class": outcome.error_class,
        "priority": task.priority,
    }
