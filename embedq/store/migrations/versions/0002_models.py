"""Budgets, the ledger, models built beside the active one, vectors found again by their text (SPEC P3-P5, R12)."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"


def run(name: str) -> None:
    raw = op.get_bind().connection.driver_connection
    assert raw is not None
    raw.execute(files("embedq.store.migrations").joinpath("sql", name).read_text(encoding="utf-8"))


def upgrade() -> None:
    run("0002_up.sql")


def downgrade() -> None:
    run("0002_down.sql")
