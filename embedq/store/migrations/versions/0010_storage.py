"""Vectors in half precision, by model (docs/why/storage.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run("0010_up.sql")


def downgrade() -> None:
    run("0010_down.sql")
