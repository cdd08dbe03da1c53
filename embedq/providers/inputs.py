"""Refuses texts that no provider can embed, before a request is made."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputRefused


def refuse_unembeddable(texts: Sequence[str]) -> None:
    """Raise InputRefused for the first text that is blank, or that has a lone surrogate (no UTF-8 can carry one).

    NUL and other control characters pass: JSON carries them.
    """
    for position, text in enumerate(texts):
        if not text or text.isspace():
            raise InputRefused(f"input {position} is empty", hint="give the article a title or a content")
        if not text.isascii():
            _refuse_lone_surrogate(position, text)


def _refuse_lone_surrogate(position: int, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputRefused(
            f"input {position} has a lone surrogate at character {error.start}: it is not valid Unicode",
            hint="save the text again from a source that decodes it properly",
        ) from None
