"""Named tokens with a scope (docs/reference/tokens.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run("0007_up.sql")


def downgrade() -> None:
    run("0007_down.sql")
