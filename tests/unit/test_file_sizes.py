"""Files stay small enough to be read in one sitting. Migrations are excepted: they are never changed."""

from __future__ import annotations

from pathlib import Path

MOST_LINES = 300
PACKAGE = Path(__file__).parents[2] / "embedq"


def test_no_module_is_longer_than_300_lines():
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts}

    assert len(lines) > 100
    assert {str(path.relative_to(PACKAGE)): number for path, number in lines.items() if number > MOST_LINES} == {}
