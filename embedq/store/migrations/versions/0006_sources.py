"""Sources: tables of the user's whose rows are kept embedded; triggers run with their owner's rights (docs/why/sources.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run("0006_up.sql")


def downgrade() -> None:
    run("0006_down.sql")
