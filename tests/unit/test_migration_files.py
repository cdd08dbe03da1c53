"""Migrations are read by people: each function stands whole where it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "embedq" / "store" / "migrations" / "sql").glob("*.sql"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_migration_edits_a_functions_source_as_a_string(file: Path) -> None:
    assert "pg_get_functiondef" not in file.read_text(encoding="utf-8")
