"""Budgets, the ledger, models built beside the active one, vectors found again by their text."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run("0002_up.sql")


def downgrade() -> None:
    run("0002_down.sql")
