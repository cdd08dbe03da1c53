"""Births cost less: one look for a statement's articles, and no new plan for each statement (docs/why/performance.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run("0003_up.sql")


def downgrade() -> None:
    run("0003_down.sql")
