"""Operators' commands of the version before on the new schema: a deployment that has not been rolled yet can be looked after."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from embedq.store import schema
from embedq.store.database import Database

from .test_without_stopping import well
from .versions import Version

COMMANDS = [
    ["status"],
    ["stats"],
    ["recent"],
    ["explain", "tea"],
    ["audit"],
    ["pause", "--priority", "low", "--reason", "x", "--yes"],
    ["resume", "--yes"],
    ["stop", "--reason", "x", "--yes"],
    ["start", "--reason", "x", "--yes"],
    ["failed"],
    ["stuck"],
    ["reset-stuck", "--yes"],
    ["retry", "--all", "--yes"],
    ["reconcile"],
    ["verify"],
    ["cleanup", "--yes"],
    ["mode", "celery", "--reason", "x", "--yes"],
    ["mode", "database", "--reason", "x", "--yes"],
    ["articles", "list"],
    ["articles", "show", "tea"],
    ["articles", "edit", "tea", "--content", "black"],
    ["articles", "delete", "milk", "--yes"],
    ["search", "green tea"],
    ["search", "--hybrid", "green tea"],
    ["index", "build"],
    ["index", "drop", "--words", "--yes"],
    ["index", "build", "--words"],
    ["index", "status"],
    ["model", "list"],
    ["model", "add", "hashing", "other", "32"],
    ["usage"],
    ["alerts", "check"],
    ["metrics"],
    ["broker", "status"],
    ["backfill", "--reason", "x", "--yes"],
    ["export", "-"],
    ["backup", "{folder}/backup"],
    ["restore", "{folder}/backup", "--yes"],
    ["requeue", "--status", "completed", "--yes"],
    ["clear", "--all", "--why", "x", "--yes"],
    ["rollback", "assess"],
]


@pytest.fixture
def upgraded(before: Version, shop: dict[str, str], bare_url: str) -> dict[str, str]:
    """Set up and used by 0.1.0; the schema is the newest."""
    ours = shop | {"EMBEDDING_PROVIDER": "hashing", "EMBEDDING_DIMENSIONS": "64"}
    well(before, ours, "db", "upgrade")
    with psycopg.connect(bare_url) as connection:
        connection.execute(
            "INSERT INTO articles (id, title, content) VALUES ('tea', 'Tea', 'green'), ('milk', 'Milk', 'white')"
        )
    well(before, ours, "index", "build", "--words")
    database = Database(bare_url)
    schema.upgrade(database)
    database.close()
    return ours


def test_they_work(before: Version, upgraded: dict[str, str], tmp_path: Path):
    """1 says that something is not well, and 3 of `alerts check` that no worker runs, as on the schema of its own."""
    failed = []
    for command in COMMANDS:
        done = before.command(upgraded, *(word.format(folder=tmp_path) for word in command))
        if done.returncode not in (0, 1, 3 if command[0] == "alerts" else 0) or "Traceback" in done.stderr:
            failed.append(f"{' '.join(command)}: {done.returncode} {done.stdout[-300:]} {done.stderr[-500:]}")
    assert failed == []
