"""Care of the whole: what is stale, what does not fit together, what is old, how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import StoreUnavailable
from ..model import Mode
from .database import Connection, Database
from .queries import QUERIES

STEP = 5000
ODDITIES = {
    "orphans": "embeddings belong to no article: `embedq reconcile` removes them",
    "vectors_without_embedding": "articles have vectors that no embedding vouches for: `embedq reindex` makes them anew",
    "embeddings_without_vectors": "embeddings have no vectors: `embedq reindex` makes them anew",
    "held_by_nobody": "tasks are processing and their worker is dead: a running worker's steward takes them back, or `embedq reset-stuck`",
}


def _number(connection: Connection, statement: str) -> int:
    row = connection.execute(getattr(QUERIES, statement)).fetchone()
    return int(next(iter(row.values()))) if row else 0


class Care:
    def __init__(self, database: Database) -> None:
        self.database = database

    def reconcile(self, *, also: Sequence[str] = (), dry_run: bool = False) -> dict[str, int]:
        """Give every stale article without an open or settled task one. `also`: statuses of the last task to take in as well.

        Returns counts of stale articles by the state of their promise, and `made`.
        """
        counts: dict[str, int] = {"made": 0}
        for model_id in self._kept_models():
            with self.database.transaction() as connection:
                connection.execute(QUERIES.stale, {"model_id": model_id})
                for row in connection.execute(QUERIES.stale_counts).fetchall():
                    counts[row["task_status"]] = counts.get(row["task_status"], 0) + row["articles"]
                if not dry_run:
                    counts["made"] += self._want(connection, model_id, also)
        return counts

    def verify(self) -> dict[str, Any]:
        """Wanted against stored for the active model, and what does not fit together. `problems` is empty when nothing is missing."""
        active = self.database.one(QUERIES.active_model)
        if active is None:
            raise StoreUnavailable("no model is active", hint="`embedq db upgrade` registers the one that the settings name")
        with self.database.transaction() as connection:
            connection.execute(QUERIES.stale, {"model_id": active["id"]})
            stale = {row["task_status"]: row["articles"] for row in connection.execute(QUERIES.stale_counts).fetchall()}
            totals = connection.execute(QUERIES.wanted_and_stored, {"model_id": active["id"]}).fetchone() or {}
            odd = {name: _number(connection, name) for name in ODDITIES}
        missing = stale.get("none", 0) + stale.get("completed", 0)
        problems = [f"{missing} articles are stale and nobody has promised a vector: `embedq reconcile`"] if missing else []
        problems += [f"{odd[name]} {words}" for name, words in ODDITIES.items() if odd[name]]
        return {**totals, "stale": sum(stale.values()), "missing": missing, **odd, "stale_by_task": stale, "problems": problems}

    def _want(self, connection: Connection, model_id: int, also: Sequence[str]) -> int:
        row = connection.execute(QUERIES.untracked_stale, {"also": list(also)}).fetchone()
        ids = (row and row["ids"]) or []
        made = 0
        for at in range(0, len(ids), STEP):
            done = connection.execute(
                QUERIES.want_of, {"model_id": model_id, "ids": ids[at : at + STEP], "why": "reconcile"}
            ).fetchone()
            made += done["made"] if done else 0
        return made

    def _kept_models(self) -> list[int]:
        return [row["id"] for row in self.database.fetch("SELECT id FROM embedding_models WHERE kept_in_step ORDER BY id")]

    def reconcile_if_tasks_are_made(self) -> int:
        row = self.database.one(QUERIES.live_status)
        if row is None or row["mode"] in (Mode.SYNC, Mode.OFF) or not row["submissions_accepted"]:
            return 0
        return self.reconcile()["made"]

    def clean_up_due(self, hours: int) -> bool:
        row = self.database.one(QUERIES.last_cleanup, {"hours": hours})
        return not (row and row["recent"])

    def clean_up(self, days: int) -> dict[str, int]:
        """Remove what is finished and older than `days`; failed and skipped tasks stay: somebody has to see them."""
        removed = {"tasks": 0}
        tasks = QUERIES.cleanup_tasks.replace("{old_task}", QUERIES.old_task)
        while (step := self.database.execute(tasks, {"days": days, "limit": STEP})) > 0:
            removed["tasks"] += step
        for what in ("metrics", "audit", "versions"):
            removed[what] = self.database.execute(getattr(QUERIES, f"cleanup_{what}"), {"days": days})
        return removed

    def would_clean_up(self, days: int) -> dict[str, int]:
        """How many rows `clean_up` would remove now."""
        return self.database.one(QUERIES.would_clean_up.replace("{old_task}", QUERIES.old_task), {"days": days}) or {}

    def sample(self) -> None:
        self.database.execute(QUERIES.sample_depth)
        self.database.execute(QUERIES.sample_done, {"seconds": 10.0})
