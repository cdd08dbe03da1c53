"""What a model's inputs are made of, and its canary's vector: whether it is still the model that it was (docs/why/inputs.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run("0009_up.sql")


def downgrade() -> None:
    run("0009_down.sql")
