"""What becomes of a task whose vectors were not stored, because the store already has vectors of a text with a higher number."""

from __future__ import annotations

from enum import Enum


class Then(Enum):
    """What its settle does instead."""

    CANCEL = "the article is gone"
    STORE = "it is the article's text: its numbers went back, after a restore"
    COMPLETE = "the article's newest text is stored already"
    WAIT = "neither: it is embedded again, by the newest text"


def not_stored(mine: bytes, article: bytes | None, stored: bytes | None) -> Then:
    """By the hashes of the text that was embedded, of the article's text now (None: it is gone) and of what is stored (None: nothing)."""
    if article is None:
        return Then.CANCEL
    if article == mine:
        return Then.STORE
    return Then.COMPLETE if stored == article else Then.WAIT
