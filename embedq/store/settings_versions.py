"""Versions of the configuration, in the audit log: which settings were saved, by whom, when and why. Secrets are not included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from ..errors import NotFound
from .database import Database, Row
from .queries import QUERIES


class SettingsVersions:
    def __init__(self, database: Database) -> None:
        self.database = database

    def save(self, kept: Mapping[str, Any], live: Mapping[str, Any], who: str, why: str) -> int:
        """Save it as the next version; returns its number."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.one_version_at_a_time)
            row = connection.execute(QUERIES.next_version).fetchone() or {"version": 1}
            metadata = {"who": who, "reason": why, "version": row["version"], "live": dict(live), **kept}
            line = {"category": "config", "level": "info", "message": f"configuration version {row['version']} was saved"}
            connection.execute(QUERIES.audit, line | {"metadata": Jsonb(metadata)})
        return int(row["version"])

    def all(self, limit: int = 50) -> list[Row]:
        """The latest first."""
        return self.database.fetch(QUERIES.settings_versions, {"version": None, "limit": limit})

    def get(self, version: int | None) -> Row:
        """That version, or the latest. Raises NotFound."""
        row = self.database.one(QUERIES.settings_versions, {"version": version, "limit": 1})
        if row is None:
            raise NotFound(
                f"there is no configuration version {version or 'yet'}",
                hint="`embedq config save` keeps one, `embedq config list` shows them",
            )
        return row
