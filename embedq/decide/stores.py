"""What to do with a task whose vectors were not stored because vectors of a newer text version are stored."""

from __future__ import annotations

from enum import Enum


class Then(Enum):
    """What the settle does instead of completing the task."""

    CANCEL = "the article is gone"
    STORE = "it is the article's text: its numbers went back, after a restore"
    COMPLETE = "the article's newest text is stored already"
    WAIT = "neither: it is embedded again, by the newest text"


def not_stored(mine: bytes, article: bytes | None, stored: bytes | None) -> Then:
    """Decide by three hashes: of the embedded text, of the article's current text (None: deleted) and of the stored text (None: nothing stored)."""
    if article is None:
        return Then.CANCEL
    if article == mine:
        return Then.STORE
    return Then.COMPLETE if stored == article else Then.WAIT
