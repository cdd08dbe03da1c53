"""One index for the tasks of an article instead of two (docs/why/performance.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run("0004_up.sql")


def downgrade() -> None:
    run("0004_down.sql")
