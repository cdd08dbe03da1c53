"""Maintenance of the data: stale articles, inconsistent rows, clean-up, samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from ..errors import StoreUnavailable
from .database import Connection, Database, Row
from .live import live_state
from .misfits import KINDS, Misfits
from .queries import QUERIES
from .unlocked import on_unlocked

STEP = 5000
# The steward checks all chunks and tenants of this share of the articles each time it reconciles.
STEWARDS_SHARE = 12
HELD_BY_NOBODY = (
    "tasks are processing and their worker is dead: a running worker's steward takes them back, or `embedq reset-stuck`"
)


class Care:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.misfits = Misfits(database)
        self._rounds = 0

    def reconcile(self, *, also: Sequence[str] = (), dry_run: bool = False, share: int = 1) -> dict[str, int]:
        """Repair inconsistent rows, and make a task for every stale article without an open or settled task.

        In ranges of ids, in short transactions that wait for no writer: an article that is being written is left for the next time.
        `also`: statuses of the last task to take in as well. `share`: of a large table, look at the chunks and tenants of one stretch in so
        many only, others each time.
        Returns counts of stale articles by the state of their promise, `made` and `mended`.
        """
        counts: dict[str, int] = {"made": 0, "mended": 0}
        self._rounds += 1
        models = self._kept_models()
        for number, (after, last) in enumerate(self._stretches()):
            if number < share or (number + self._rounds) % share == 0:
                counts["mended"] += self.misfits.mend(after, last, dry_run=dry_run)
            for model_id in models:
                for row in self._stale(model_id, after, last, also):
                    counts[row["task_status"]] = counts.get(row["task_status"], 0) + row["articles"]
                    counts["made"] += self._want(model_id, row["ids"]) if row["ids"] and not dry_run else 0
        return counts

    def verify(self) -> dict[str, Any]:
        """Compares wanted with stored texts of the active model, and finds inconsistent rows, in one snapshot. `problems` is empty when
        nothing is missing and search finds every article under its tenant as far as it is embedded."""
        active = self.database.one(QUERIES.active_model)
        if active is None:
            raise StoreUnavailable("no model is active", hint="`embedq db upgrade` registers the one that the settings name")
        model = {"model_id": active["id"]}
        with self.database.snapshot() as connection:
            everywhere = QUERIES.stale.replace("{within}", "TRUE")
            rows = connection.execute(everywhere, model | {"also": [], "named": False}).fetchall()
            stale = {row["task_status"]: row["articles"] for row in rows}
            totals = connection.execute(QUERIES.wanted_and_stored, model).fetchone() or {}
            odd = self.misfits.counts(connection) | {"held_by_nobody": _number(connection, "held_by_nobody")}
            sources, of_sources = _sources_verified(connection)
        missing = stale.get("none", 0) + stale.get("completed", 0)
        problems = [f"{missing} articles are stale and have no task: `embedq reconcile`"] if missing else []
        problems += [f"{odd[name]} {words}: `embedq reconcile`" for name, words in KINDS.items() if odd[name]]
        problems += [f"{odd['held_by_nobody']} {HELD_BY_NOBODY}"] if odd["held_by_nobody"] else []
        problems += of_sources
        return {
            **totals,
            "stale": sum(stale.values()),
            "missing": missing,
            **odd,
            "stale_by_task": stale,
            "sources": sources,
            "problems": problems,
        }

    def _stretches(self) -> Iterator[tuple[str, str | None]]:
        """The articles by id, and all that may lie between and behind them."""
        after = ""
        while True:
            row = self.database.one(QUERIES.stretch_end, {"after": after, "limit": STEP})
            if row is None or row["articles"] < STEP:
                yield after, None
                return
            yield after, row["last"]
            after = row["last"]

    def _stale(self, model_id: int, after: str, last: str | None, also: Sequence[str]) -> list[Row]:
        within = QUERIES.stale.replace("{within}", QUERIES.stale_within)
        return self.database.fetch(
            within, {"model_id": model_id, "after": after, "last": last, "also": list(also), "named": True}
        )

    def _want(self, model_id: int, ids: Sequence[str]) -> int:
        made, _ = on_unlocked(self.database, ids, wanted_of(model_id, "reconcile"))
        return made

    def _kept_models(self) -> list[int]:
        return [row["id"] for row in self.database.fetch("SELECT id FROM embedding_models WHERE kept_in_step ORDER BY id")]

    def reconcile_if_tasks_are_made(self, share: int = 1) -> int:
        return self.reconcile(share=share)["made"] if live_state(self.database).makes_tasks else 0

    def clean_up_due(self, hours: int) -> bool:
        row = self.database.one(QUERIES.last_cleanup, {"hours": hours})
        return not (row and row["recent"])

    def clean_up(self, days: int) -> dict[str, int]:
        """Remove what is finished and older than `days`; failed and skipped tasks stay, for an operator to review."""
        removed = {"tasks": 0}
        tasks = QUERIES.cleanup_tasks.replace("{old_task}", QUERIES.old_task)
        while (step := self.database.execute(tasks, {"days": days, "limit": STEP})) > 0:
            removed["tasks"] += step
        for what in ("metrics", "audit", "rejected"):
            removed[what] = self.database.execute(getattr(QUERIES, f"cleanup_{what}"), {"days": days})
        removed["versions"] = self._clean_up_versions(days)
        return removed

    def _clean_up_versions(self, days: int) -> int:
        """Texts of articles that were deleted longer ago; how many."""
        statement, removed = QUERIES.cleanup_versions.replace("{purged_article}", QUERIES.purged_article), 0
        while row := self.database.one(statement, {"days": days, "limit": STEP}):
            if not row["texts"]:
                break
            removed += row["texts"]
        return removed

    def would_clean_up(self, days: int) -> dict[str, int]:
        """How many rows `clean_up` would remove now."""
        statement = QUERIES.would_clean_up.replace("{old_task}", QUERIES.old_task).replace(
            "{purged_article}", QUERIES.purged_article
        )
        return self.database.one(statement, {"days": days}) or {}

    def sample(self) -> None:
        self.database.execute(QUERIES.sample_depth)
        self.database.execute(QUERIES.sample_done, {"seconds": 10.0})


def wanted_of(model_id: int, why: str) -> Callable[[Connection, list[str]], int]:
    """Makes tasks of one model for articles whose rows the transaction holds; how many."""

    def want(connection: Connection, ids: list[str]) -> int:
        row = connection.execute(QUERIES.want_of, {"model_id": model_id, "ids": ids, "why": why}).fetchone()
        return int(row["made"]) if row else 0

    return want


def _sources_verified(connection: Connection) -> tuple[dict[str, Row], list[str]]:
    """What differs between each source's table and its articles, by name; and what of that is a problem."""
    found: dict[str, Row] = {}
    problems: list[str] = []
    for name in [row["name"] for row in connection.execute("SELECT name FROM embedding_sources ORDER BY name").fetchall()]:
        try:
            with connection.transaction():
                found[name] = connection.execute(QUERIES.source_differences, {"name": name}).fetchone() or {}
        except psycopg.Error as failed:
            problems.append(
                f"the source {name} cannot be compared with its table ({failed.diag.message_primary}): `embedq source status {name}`"
            )
            continue
        if any(found[name].values()):
            counts = ", ".join(f"{number} {what}" for what, number in found[name].items() if number)
            problems.append(f"the source {name} differs from its table ({counts}): `embedq reconcile --source {name}`")
    return found, problems


def _number(connection: Connection, statement: str) -> int:
    row = connection.execute(getattr(QUERIES, statement)).fetchone()
    return int(next(iter(row.values()))) if row else 0
