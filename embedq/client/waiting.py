"""`Client.wait`: until articles are embedded."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..errors import NotWell
from .parts import Parts

# Of an article whose newest text has no vector yet.
UNDER_WAY = ("queued", "processing")
# Pause between two looks: the first, and, as each is twice the one before, the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.5


def wait(parts: Parts, article_ids: Sequence[str], timeout_s: float, tenant_id: str | None) -> dict[str, str]:
    """The `embedding_status` of each that exists, once none is under way. Raises NotWell when some still are after `timeout_s` seconds."""
    ends_at, pause_s = time.monotonic() + timeout_s, FIRST_PAUSE_S
    while True:
        statuses = parts.store.articles.embedding_statuses(article_ids, tenant_id=tenant_id)
        waiting = [article for article, status in statuses.items() if status in UNDER_WAY]
        left_s = ends_at - time.monotonic()
        if not waiting:
            return statuses
        if left_s <= 0:
            raise _not_embedded(waiting, timeout_s)
        parts.pause(min(pause_s, left_s))
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _not_embedded(waiting: Sequence[str], timeout_s: float) -> NotWell:
    return NotWell(
        f"{len(waiting)} articles are not embedded after {timeout_s:g} s, for example {min(waiting)!r}",
        hint=f"they are saved; `embedq explain {min(waiting)}` says what they wait for",
    )
