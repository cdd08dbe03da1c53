"""The guarantees in every interleaving: a pinned schema, tasks and vectors that follow their article (docs/why/interleavings.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run("0005_up.sql")


def downgrade() -> None:
    run("0005_down.sql")
