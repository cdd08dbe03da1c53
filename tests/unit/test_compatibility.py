"""docs/reference/compatibility.rst: each line is a test that exists, or says why there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "compatibility.rst").read_text(encoding="utf-8")
NAMED = re.compile(r"``(tests/[\w/]+\.py)(?:::(\w+))?``")


def lines() -> list[list[str]]:
    """The cells of each line of each table, without the heads."""
    rows = [re.split(r"\n {5}- ", row) for row in re.split(r"\n {3}\* - ", PAGE)[1:]]
    return [[" ".join(cell.split()) for cell in row] for row in rows if row[0].strip() != "what"]


@pytest.mark.parametrize("line", lines(), ids=lambda line: line[0][:40])
def test_a_line_is_a_test_or_says_why_there_is_none(line):
    assert len(line) == 3, line
    tried = line[2]
    found = NAMED.search(tried)
    if found is None:
        assert tried.startswith("not tested, because ") and len(tried) > 30, line
        return
    file, test = found.groups()
    text = (ROOT / file).read_text(encoding="utf-8")
    assert test is None or re.search(rf"^def {test}\(", text, re.MULTILINE), line


def test_there_are_tables_for_databases_and_brokers():
    assert len(lines()) > 30
