"""A log line is one line, without secrets, whoever wrote what is in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from urllib.parse import quote

import pytest
from celery.utils.log import ColorFormatter

from embedq.addresses import MASK, Address
from embedq.local.supervisor import Lines
from embedq.telemetry import logs
from tests.strangers import FORGED, HOSTILE, forged, seen

PASSWORD = 'pa"QQ\\ZZ\nrd'


@pytest.fixture
def record() -> logging.LogRecord:
    Address(f"postgresql://u:{quote(PASSWORD)}@h/app")
    try:
        raise ValueError(f"{PASSWORD} {HOSTILE}")
    except ValueError as failed:
        exc_info = (type(failed), failed, failed.__traceback__)
    made = logging.LogRecord("embedq", logging.ERROR, __file__, 1, "%s of %s", (HOSTILE, PASSWORD), exc_info)
    made.article, made.tenant, made.path = f"tea{HOSTILE}", PASSWORD, "/\ud800"
    made.stack_info = f"Stack:\n{HOSTILE}"
    return made


@pytest.mark.parametrize(
    "inner", [None, ColorFormatter("[%(levelname)s] %(message)s", use_color=False)], ids=["ours", "Celery's"]
)
def test_a_record_is_a_line_with_an_indented_traceback(record: logging.LogRecord, inner: logging.Formatter | None):
    said = logs.formatter("text", inner).format(record)

    first, *below = said.splitlines()
    assert FORGED in first and MASK in first
    assert below[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in below)
    assert (seen(first), seen(said, "\n\t")) == ([], [])
    assert "QQ" not in said and "ZZ" not in said
    assert record.exc_info and record.exc_text is None  # other handlers get the record as it was


def test_a_record_as_json_is_one_line_without_secrets(record: logging.LogRecord):
    said = logs.formatter("json").format(record)

    told = json.loads(said)
    assert (seen(said), said.count("\n")) == ([], 0)
    assert (told["message"], told["tenant"], told["article"]) == (f"{HOSTILE} of {MASK}", MASK, f"tea{HOSTILE}")
    assert MASK in told["traceback"] and "Stack:" in told["traceback"]
    assert "QQ" not in said and "ZZ" not in said


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("quoted", [repr, json.dumps, quote, ascii])
def test_a_traceback_that_quotes_a_password_is_masked(
    record: logging.LogRecord, style: str, quoted: Callable[[str], str]
) -> None:
    try:
        raise ValueError(quoted(PASSWORD))
    except ValueError as failed:
        record.exc_info = (type(failed), failed, failed.__traceback__)

    said = logs.formatter(style).format(record)

    assert "QQ" not in said and "ZZ" not in said


def test_a_formatter_of_ours_is_not_wrapped_again():
    ours = logs.formatter("text")

    assert logs.formatter("text", ours) is ours


def test_the_lines_of_children_are_lines():
    out = io.StringIO()

    Lines(out, colour=False).say("poller", f"{HOSTILE}\ud800")

    assert (seen(out.getvalue()), forged(out.getvalue()), out.getvalue().count("\n")) == ([], [], 1)
