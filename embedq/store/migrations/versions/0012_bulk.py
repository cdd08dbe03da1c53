"""Rows that come in bulk into an attached table."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run("0012_up.sql")


def downgrade() -> None:
    run("0012_down.sql")
