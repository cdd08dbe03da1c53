"""Each line of the table of providers is a test, or says why it is none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.dialects import HARM, PRODUCTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "providers.rst").read_text(encoding="utf-8")
ROWS = [
    [first, *re.findall(r"^     - (.*)", rest, re.MULTILINE)]
    for first, rest in re.findall(r"^   \* - (.*)((?:\n     - .*)*)", PAGE, re.MULTILINE)
][1:]


def test_every_line_names_a_test_that_exists_or_says_why_there_is_none():
    for row in ROWS:
        assert len(row) == 4, row
        named = re.fullmatch(r"``(tests/[\w/]+\.py)::(\w+)``", row[3])
        if named is None:
            assert row[3].startswith("not tested, because "), row
            continue
        tree = ast.parse((ROOT / named[1]).read_text(encoding="utf-8"))
        assert named[2] in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, row


def test_every_server_that_is_tested_has_its_line():
    shown = {row[0].strip("`") for row in ROWS if row[0].startswith("``")}

    assert shown == {*PRODUCTS, *HARM}
