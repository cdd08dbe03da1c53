"""Words for ranking by words in any language, with identifiers as a whole and in parts (docs/why/search.rst)."""

from __future__ import annotations

from embedq.store.migrations import run

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run("0008_up.sql")


def downgrade() -> None:
    run("0008_down.sql")
