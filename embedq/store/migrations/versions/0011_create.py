"""An article and its task in one statement."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run("0011_up.sql")


def downgrade() -> None:
    run("0011_down.sql")
